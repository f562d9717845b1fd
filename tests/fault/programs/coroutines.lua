workflow{name="program", run=function(run, input)
local co = coroutine.wrap(function(a) for i = 1, 20 do a = a + coroutine.yield(a * i) end return "end" end) local s = co(1) for i = 1, 19 do s = s + co(i) end return s .. co(0)
end}
