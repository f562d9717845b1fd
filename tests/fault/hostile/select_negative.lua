-- ends: script_error
workflow{name="attack", run=function(run, input)
return select(-5, 1)
end}
