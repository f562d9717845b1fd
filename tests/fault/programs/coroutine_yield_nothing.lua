workflow{name="program", run=function(run, input)
local n, co = 0, nil co = coroutine.create(function() for i = 1, 12 do coroutine.yield() end return 1 end) while coroutine.resume(co) do n = n + 1 end return n .. coroutine.status(co)
end}
