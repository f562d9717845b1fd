-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local t = {}
for i = 1, 1e9 do t["k" .. i] = i end
end}
