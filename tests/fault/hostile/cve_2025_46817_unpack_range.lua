-- ends: done
-- Redis CVE-2025-46817: the count of unpack's range overflowed.
workflow{name="attack", run=function(run, input)
local ends = {0, 1, -1, 2^31 - 1, -2^31, -2^31 + 1, 2^31, 2^32, 2^53, -2^53, 1/0, -1/0}
for _, from in ipairs(ends) do
  for _, to in ipairs(ends) do
    local ok, n = pcall(function() return select("#", unpack({1, 2, 3}, from, to)) end)
    assert(not ok or n <= 8000, "unpack gave many")
  end
end
end}
