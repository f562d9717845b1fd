-- ends: script_error
workflow{name="attack", run=function(run, input)
("a"):rep(27):find(("a?"):rep(27) .. ("a"):rep(27))
for i = 1, 100 do ("a"):rep(40):find(("a*"):rep(20) .. "b") end
end}
