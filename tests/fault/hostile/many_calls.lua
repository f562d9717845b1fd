-- ends: script_error
workflow{name="attack", run=function(run, input)
local fs = {}
for i = 1, 257 do fs[i] = function() time.sleep(1) end end
parallel(fs)
end}
