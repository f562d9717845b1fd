workflow{name="program", run=function(run, input)
local out = {} for i = 1, 10 do out[i] = select(2, xpcall(function() error(i, 0) end, function(e) return e * 2 end)) end return table.concat(out, " ")
end}
