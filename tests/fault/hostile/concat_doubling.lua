-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local s = "x"
while true do s = s .. s end
end}
