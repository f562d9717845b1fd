-- ends: script_error
workflow{name="attack", run=function(run, input)
("a"):rep(400):find(".-.-.-.-b")
end}
