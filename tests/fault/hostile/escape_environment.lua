-- ends: done
workflow{name="attack", run=function(run, input)
for _, name in ipairs{"getfenv", "setfenv", "debug", "io", "os", "package", "module", "ffi", "jit", "newproxy", "dofile",
    "loadfile", "loadstring", "collectgarbage"} do
  assert(_G[name] == nil and load("return " .. name)() == nil, name)
end
for _, name in ipairs{"ffi", "jit", "kt.store", "kt.file", "io", "os", "debug", "jit.opt", "table.new", "../secret"} do
  assert(not pcall(require, name), name)
end
leaked = 1
assert(load("return leaked")() == 1 and load("leaked = 2", "c", "t", {}) and leaked == 1)
assert(type(1LL) == "cdata" and not pcall(function() return (1LL).x end))
end}
