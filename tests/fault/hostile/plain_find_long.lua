-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local s = ("a"):rep(2^20) local p = ("a"):rep(2^19) .. "b"
while true do s:find(p, 1, true) end
end}
