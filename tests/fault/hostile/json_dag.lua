-- ends: script_error
workflow{name="attack", run=function(run, input)
local json, t = require "json", {}
for i = 1, 50 do t = {t, t} end
json.encode(t)
end}
