-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
::again:: goto again
end}
