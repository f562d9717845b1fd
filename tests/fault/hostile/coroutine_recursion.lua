-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local function f() return pcall(coroutine.wrap(f)) end
while true do f() end
end}
