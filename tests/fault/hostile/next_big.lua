-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local t = {}
for i = 1, 20000 do t["k" .. i] = i end
while true do local k = next(t) while k do k = next(t, k) end end
end}
