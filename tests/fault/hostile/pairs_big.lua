-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local t = {}
for i = 1, 20000 do t[i * 3] = i end
while true do for _ in pairs(t) do end end
end}
