-- ends: script_error
workflow{name="attack", run=function(run, input)
local json, s, t = require "json", ("x"):rep(1e5), {}
for i = 1, 1e4 do t[i] = s end
json.encode(t)
end}
