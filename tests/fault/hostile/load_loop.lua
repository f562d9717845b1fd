-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
load("while true do end")()
end}
