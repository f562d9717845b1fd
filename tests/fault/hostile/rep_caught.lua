-- ends: memory_limit
workflow{name="attack", run=function(run, input)
while true do pcall(string.rep, "x", 2^28) end
end}
