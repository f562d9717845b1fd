-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
("aaa"):gsub("a", setmetatable({}, {__index = function() while true do end end}))
end}
