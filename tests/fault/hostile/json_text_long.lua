-- ends: done
workflow{name="attack", run=function(run, input)
local json = require "json"
local v, err = json.decode("[" .. ("[],"):rep(400000) .. "[]]")
assert(v == nil and err.code == "invalid_json")
end}
