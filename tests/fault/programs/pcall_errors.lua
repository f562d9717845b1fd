workflow{name="program", run=function(run, input)
local n = 0 for i = 1, 30 do local ok, e = pcall(function() if i % 3 == 0 then error({i = i}) end return i end) n = n + (ok and e or -e.i) end return n
end}
