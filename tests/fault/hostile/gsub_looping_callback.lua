-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
("aaa"):gsub("a", function() while true do end end)
end}
