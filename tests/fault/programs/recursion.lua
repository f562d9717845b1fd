workflow{name="program", run=function(run, input)
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end local function ack(m, n) if m == 0 then return n + 1 elseif n == 0 then return ack(m - 1, 1) end return ack(m - 1, ack(m, n - 1)) end return fib(9) * 1000 + ack(2, 3)
end}
