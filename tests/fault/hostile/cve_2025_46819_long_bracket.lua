-- ends: done
-- Redis CVE-2025-46819: a long bracket that never opens was read beyond its end.
workflow{name="attack", run=function(run, input)
for _, n in ipairs{1, 2, 100, 65535, 65536, 100000} do
  for _, text in ipairs{"[" .. ("="):rep(n), "[" .. ("="):rep(n) .. "[", "--[" .. ("="):rep(n),
      "return [" .. ("="):rep(n) .. "[x]" .. ("="):rep(n - 1) .. "]"} do
    local ok, f = pcall(load, text)
    assert(not ok or f == nil or text:sub(1, 2) == "--")
  end
end
end}
