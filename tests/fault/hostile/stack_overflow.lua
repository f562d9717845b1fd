-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local function f() return 1 + f() end
while true do pcall(f) end
end}
