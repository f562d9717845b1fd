-- ends: done
workflow{name="attack", run=function(run, input)
local s = ("ab "):rep(1e5)
for i = 1, 5 do s = s:gsub("%w+", "%0") end
end}
