-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local t = {}
for i = 1, 1e9 do table.insert(t, 1, i) if #t > 50000 then t = {} end end
end}
