-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do pcall(unpack, {}, 1, 1e7) end
end}
