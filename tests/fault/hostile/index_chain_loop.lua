-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local a, b = {}, {}
setmetatable(a, {__index = b, __newindex = b})
setmetatable(b, {__index = a, __newindex = a})
while true do pcall(function() return a.x end) end
end}
