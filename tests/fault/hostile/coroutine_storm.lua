-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
while true do local co = coroutine.create(function() while true do coroutine.yield() end end) coroutine.resume(co) coroutine.resume(co) end
end}
