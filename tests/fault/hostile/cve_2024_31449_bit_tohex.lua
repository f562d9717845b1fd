-- ends: done
-- Redis CVE-2024-31449: a negative width overflowed the buffer of bit.tohex.
workflow{name="attack", run=function(run, input)
for _, width in ipairs{-2^31, 2^31 - 1, -2^31 + 1, -9, 9, 0} do
  for _, n in ipairs{65535, -1, 2^53, -2^53} do
    local ok, text = pcall(bit.tohex, n, width)
    assert(not ok or #text <= 254) -- LuaJIT writes that many digits at most
  end
end
end}
