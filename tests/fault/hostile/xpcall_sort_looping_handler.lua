-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local t = {}
for i = 1, 100 do t[i] = i end
xpcall(function() table.sort(t, function() while true do end end) end, function() while true do end end)
end}
