-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local json = require "json"
local text = json.encode{1, 2, {a = {b = "c"}}}
while true do json.decode(text) end
end}
