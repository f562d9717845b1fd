-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do load("return " .. ("1+"):rep(1000) .. "1") end
end}
