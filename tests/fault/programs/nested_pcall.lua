workflow{name="program", run=function(run, input)
local function f(n) if n == 0 then error("deep") end local ok, e = pcall(f, n - 1) error(e .. n, 0) end return select(2, pcall(f, 20))
end}
