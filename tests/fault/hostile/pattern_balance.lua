-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local s = ("("):rep(2e5)
while true do pcall(string.find, s, "%b()") end
end}
