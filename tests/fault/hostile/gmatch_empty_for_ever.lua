-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do for _ in ("aaaa"):gmatch("") do end end
end}
