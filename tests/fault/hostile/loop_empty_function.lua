-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local function f() end
while true do f() end
end}
