local script = require "kt.script"
local value = require "value"

-- Runs it to its end; calls are answered with null.
local function finish(run)
  while true do
    local event = assert(run:next())
    if event.status ~= "calls" then return event end
    for _, call in ipairs(event.calls) do
      if not call.emit then assert(run:answer(call.id, true, value.encode(nil))) end
    end
  end
end

describe("kt.script for the console", function()
  local vm
  after_each(function() vm:close() end)

  it("keeps the globals of runs that say so, and of no other", function()
    vm = assert(script.vm { files = { ["a.lua"] = "return {f = function(x) n = (n or 0) + x return {n = n, t = tostring(table.mark)} end}" } })
    local function run(keep)
      return value.decode(finish(assert(vm:start { path = "a.lua", call = "f", input = 1, seed = "s", now = 1, keep = keep })).value).n
    end
    assert.same({ 1, 2, 1, 3, 1 }, { run(true), run(true), run(false), run(true), run(nil) })
  end)

  it("keeps what a stopped run had made", function()
    vm = assert(script.vm { files = { ["a.lua"] = "return {f = function(x) if x == 'x' then kept = x while true do end end return kept end}" } })
    local function run(input)
      return finish(assert(vm:start { path = "a.lua", call = "f", input = input, seed = "s", now = 1, keep = true, max_instructions = 100000 }))
    end
    assert.same("instruction_limit", run("x").error.code)
    assert.same("x", value.decode(run(nil).value))
  end)

  it("tells where a run and its branches wait", function()
    vm = assert(script.vm { files = { ["a.lua"] = [[
workflow { name = "a", run = function()
  local function inner() tool.call("one", {}) return 1 end
  local done = parallel { function() local x = inner() return x end, function() local x = tool.call("two", {}) return x end }
  return done
end }]] } })
    local run = assert(vm:start { path = "a.lua", seed = "s", now = 1 })
    local calls = {} -- as many as there are at once
    while #calls < 2 do
      for _, call in ipairs(assert(run:next()).calls) do calls[#calls + 1] = call end
    end
    local seen = {}
    for _, frame in ipairs(run:stack()) do
      assert.same("a.lua", frame.script)
      seen[#seen + 1] = ("%s:%d:%s"):format(frame.call or 0, frame.line, frame.name or "")
    end
    table.sort(seen)
    assert.same({ "0:3:", "1:2:inner", "1:3:", "2:3:" }, seen)
    for _, call in ipairs(calls) do assert(run:answer(call.id, true, value.encode(nil))) end
    finish(run)
    assert.same({}, run:stack())
    run:close()
    assert.same({}, run:stack())
  end)
end)
