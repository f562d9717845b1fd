workflow{name="program", run=function(run, input)
local i, s = 1, 0 ::top:: if i > 60 then goto out end if i % 2 == 0 then i = i + 1 goto top end s = s + i i = i + 1 goto top ::out:: return s
end}
