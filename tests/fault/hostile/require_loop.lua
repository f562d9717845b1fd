-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do pcall(require, "nothing") end
end}
