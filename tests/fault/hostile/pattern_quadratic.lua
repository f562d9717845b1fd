-- ends: script_error
workflow{name="attack", run=function(run, input)
("a"):rep(1e6):find("(.-)b")
end}
