-- ends: done
workflow{name="attack", run=function(run, input)
assert(string.dump == nil and ("").dump == nil)
for _, head in ipairs{"\27LJ\2", "\27LJ\1\2", "\27Lua", "\27"} do
  local ok, f = pcall(load, head .. ("\0"):rep(100), "code", "b")
  assert(not ok or f == nil)
  ok, f = pcall(load, head .. "return 1")
  assert(not ok or f == nil)
end
end}
