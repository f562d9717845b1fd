-- ends: done
workflow{name="attack", run=function(run, input)
for _, text in ipairs{("("):rep(100000), "return " .. ("{"):rep(100000), ("do "):rep(50000), "return " .. ("-"):rep(3):rep(20000),
    "return " .. ("not "):rep(50000) .. "1", "x = " .. ("function() "):rep(20000), ("a."):rep(60000) .. "b()", "return " .. ("a .. "):rep(50000) .. "a"} do
  local f = load(text)
  assert(f == nil or type(f) == "function")
end
end}
