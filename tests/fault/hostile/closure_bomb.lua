-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local f = function() end
while true do local g = f f = function() return g end end
end}
