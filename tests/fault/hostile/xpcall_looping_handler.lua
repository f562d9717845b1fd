-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
xpcall(function() error("x") end, function() while true do end end)
end}
