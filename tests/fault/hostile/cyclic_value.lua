-- ends: validation_failed
workflow{name="attack", run=function(run, input)
local t = {}
t.t = t
model.call(t)
end}
