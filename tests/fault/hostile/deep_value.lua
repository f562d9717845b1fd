-- ends: validation_failed
workflow{name="attack", run=function(run, input)
local t = {}
for i = 1, 1e4 do t = {t} end
model.call(t)
end}
