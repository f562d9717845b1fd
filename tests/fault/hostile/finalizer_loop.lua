-- ends: done
-- Finalizers run with hooks off: one that loops could not be stopped.
workflow{name="attack", run=function(run, input)
assert(newproxy == nil)
for i = 1, 20000 do
  setmetatable({}, {__gc = function() while true do end end})
end
end}
