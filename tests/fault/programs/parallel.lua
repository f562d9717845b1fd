workflow{name="program", run=function(run, input)
local function f(n) return function() local s = 0 for i = 1, 40 do s = s + i * n end local a = tool.call("t", {n = n}) return s + a.args.n end end local r = parallel{f(1), function() return parallel{f(2), f(3)} end, f(4)} time.sleep(1) return {r, random(1, 1e6)}
end}
