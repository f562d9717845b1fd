-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local function f(n) while true do pcall(n > 0 and f or error, n - 1) end end
f(100)
end}
