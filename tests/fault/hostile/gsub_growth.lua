-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local s = ("a"):rep(1e5)
return #s:gsub("a", ("b"):rep(1000))
end}
