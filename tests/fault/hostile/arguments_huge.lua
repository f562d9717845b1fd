-- ends: output_limit
workflow{name="attack", run=function(run, input)
model.call{text = ("x"):rep(2^21)}
end}
