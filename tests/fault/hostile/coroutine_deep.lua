-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local function nest(n) return coroutine.wrap(function() if n == 0 then while true do end end nest(n - 1) end)() end
nest(50)
end}
