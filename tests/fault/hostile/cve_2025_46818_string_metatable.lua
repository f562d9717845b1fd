-- ends: done
-- Redis CVE-2025-46818: the metatable of strings, shared with everyone else, could be changed.
workflow{name="attack", run=function(run, input)
local shared = getmetatable("")
assert(type(shared) ~= "table")
assert(not pcall(setmetatable, "", {}))
for _, name in ipairs{"nil", "true", "1", "print", "tostring"} do
  local v = load("return " .. name)()
  assert(type(getmetatable(v)) ~= "table" and not pcall(setmetatable, v, {}))
end
assert(not pcall(function() ("").upper = function() return "poison" end end))
end}
