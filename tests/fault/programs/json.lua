workflow{name="program", run=function(run, input)
local json = require "json" local v for i = 1, 6 do v = json.decode(json.encode{a = {1, 2, {b = "c"}}, n = i, v = v}) end return json.encode(v)
end}
