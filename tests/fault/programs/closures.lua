workflow{name="program", run=function(run, input)
local fs = {} for i = 1, 30 do fs[i] = function(x) i = i + x return i end end local s = 0 for r = 1, 3 do for i = 1, 30 do s = s + fs[i](r) end end return s
end}
