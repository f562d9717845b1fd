workflow{name="program", run=function(run, input)
local t = {} for i = 1, 60 do t[#t + 1] = ("x"):rep(i % 5) .. i end return table.concat(t, ","):upper()
end}
