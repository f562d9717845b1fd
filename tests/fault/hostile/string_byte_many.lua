-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local s = ("x"):rep(1e6)
while true do pcall(string.byte, s, 1, -1) end
end}
