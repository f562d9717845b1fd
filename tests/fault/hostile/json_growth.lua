-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local json = require "json"
local t = {}
for i = 1, 1000 do t[i] = ("x"):rep(1000) end
local keep = {}
while true do keep[#keep + 1] = json.encode(t) t[1] = #keep .. "" end
end}
