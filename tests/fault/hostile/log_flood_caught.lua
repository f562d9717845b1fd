-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do pcall(log, "info", ("x"):rep(10000)) end
end}
