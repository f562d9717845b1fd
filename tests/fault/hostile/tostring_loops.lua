-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
tostring(setmetatable({}, {__tostring = function() while true do end end}))
end}
