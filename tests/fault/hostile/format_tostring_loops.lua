-- ends: instruction_limit
workflow{name="attack", run=function(run, input)
return ("%s"):format(setmetatable({}, {__tostring = function() while true do end end}))
end}
