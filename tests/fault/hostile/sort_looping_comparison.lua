-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
table.sort({3, 2, 1}, function() while true do end end)
end}
