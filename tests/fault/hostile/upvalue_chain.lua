-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local t = {}
while true do t = {t} end
end}
