workflow{name="program", run=function(run, input)
local function gen(n) return coroutine.wrap(function() if n > 0 then for v in gen(n - 1) do coroutine.yield(v + n) end else for i = 1, 6 do coroutine.yield(i) end end end) end local s = 0 for v in gen(2) do s = s * 3 % 1000 + v end return s
end}
