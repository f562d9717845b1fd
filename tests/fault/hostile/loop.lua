-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do end
end}
