-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do pcall(string.find, ("a"):rep(400), ".-.-.-.-b") end
end}
