workflow{name="program", run=function(run, input)
local t, x = {}, 17 for i = 1, 60 do x = x * 31 % 101 t[i] = x end table.sort(t, function(a, b) return a > b end) local u = {} for i = 1, 40 do u[i] = "k" .. t[i] end table.sort(u) return table.concat(t, ",") .. table.concat(u)
end}
