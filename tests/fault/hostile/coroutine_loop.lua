-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
coroutine.wrap(function() while true do end end)()
end}
