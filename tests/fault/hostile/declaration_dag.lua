-- ends: instruction_limit
local t = {}
for i = 1, 50 do t = {t, t} end
local function walk(x) for _, v in pairs(x) do walk(v) end end
workflow{name="attack", run=function() walk(t) end}
