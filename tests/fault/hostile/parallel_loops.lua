-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
local function f() while true do end end
parallel{f, f, function() time.sleep(1) end}
end}
