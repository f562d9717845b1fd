-- ends: memory_limit
workflow{name="attack", run=function(run, input)
local big = ("b"):rep(1e5)
return #(("a"):rep(1e4):gsub("a", function() return big .. #big end))
end}
