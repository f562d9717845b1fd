workflow{name="program", run=function(run, input)
local t = {} for i = 30, 1, -1 do t["k" .. i] = i t[i] = i end local o = {} for k, v in pairs(t) do o[#o + 1] = k .. ":" .. v end local k = next(t) while k do o[#o + 1] = k k = next(t, k) end return table.concat(o, " ")
end}
