-- ends: script_error
workflow{name="attack", run=function(run, input)
local function h() while true do xpcall(error, h) end end
xpcall(error, h)
end}
