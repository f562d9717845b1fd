-- ends: output_limit
workflow{name="attack", run=function(run, input)
return ("x"):rep(2^21)
end}
