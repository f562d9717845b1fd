-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
for _ in function() return 1 end do end
end}
