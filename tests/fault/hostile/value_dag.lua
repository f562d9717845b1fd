-- ends: output_limit
workflow{name="attack", run=function(run, input)
local t = {}
for i = 1, 50 do t = {t, t} end
model.call(t)
end}
