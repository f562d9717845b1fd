workflow{name="program", run=function(run, input)
local s = 0 for i = 1, 300 do s = s + i * i % 7 - i / 3 end return s
end}
