-- ends: script_error
workflow{name="attack", run=function(run, input)
error(setmetatable({}, {__tostring = function() while true do end end, __index = function() while true do end end, __concat = function() while true do end end}))

end}
