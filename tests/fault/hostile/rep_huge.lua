-- ends: memory_limit
workflow{name="attack", run=function(run, input)
return #("x"):rep(2^30)
end}
