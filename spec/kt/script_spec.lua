local script = require "kt.script"
local task = require "kt.task"
local value = require "value"

local function workflow(body)
  return 'workflow{name = "w", run = function(run, input)\n' .. body .. "\nend}"
end

--- Runs to the end; every call is answered with its own arguments.
local function finish(run)
  while true do
    local event = assert(run:next())
    if event.status ~= "calls" then return event end
    for _, call in ipairs(event.calls) do
      if not call.emit then assert(run:answer(call.id, true, call.args)) end
    end
  end
end

local function play(files, options)
  local vm = assert(script.vm { files = files, cap = options and options.cap })
  options = options or {}
  options.path, options.seed, options.now = options.path or "main.lua", options.seed or "s", 1000
  local event = finish(assert(vm:start(options)))
  vm:close()
  return event
end

describe("kt.script", function()
  it("tells file and line of what is wrong with a script", function()
    local declaration, err = script.check { path = "a/b.lua", source = "local x = 1\nx x" }
    assert.is_nil(declaration)
    assert.same({ script = "a/b.lua", line = 2 }, err.where)
    declaration, err = script.check { path = "a/b.lua", source = '\n\nrule{id = "X"}' }
    assert.is_nil(declaration)
    assert.same({ script = "a/b.lua", line = 3 }, err.where)
    assert.matches("field 'category' must be a string", err.message)
    local event = play { ["main.lua"] = workflow "local t\n\nreturn t.x" }
    assert.equal("script_error", event.error.code)
    assert.same({ script = "main.lua", line = 4 }, event.error.where)
  end)

  it("returns a declaration as data", function()
    local declaration = assert(script.check {
      path = "r.lua", source = 'local lib = require "lib.common"\n'
        .. 'rule{id = "X-1", title = lib.title, category = "c", params = {n = {default = 3}}, run = function() end}',
      libs = { ["lib/common.lua"] = 'return {title = "A title"}' },
    })
    assert.same({ kind = "rule", id = "X-1", title = "A title", category = "c", run = true,
      params = { n = { default = 3 } } }, declaration)
  end)

  it("repeats itself from the same seed and answers", function()
    local source = workflow [[
      local function branch(n)
        return function()
          local drawn = random(1, 1000)
          local first = tool.call("t", {n = n, drawn = drawn})
          time.sleep(n)
          return {first.args.n, drawn, uuid()}
        end
      end
      local out = parallel{branch(1), branch(2), branch(3)}
      for k, v in pairs{b = 1, a = 2, [1] = 3} do out[#out + 1] = k .. v end
      return out]]
    local one, two = play { ["main.lua"] = source }, play { ["main.lua"] = source }
    assert.equal(one.status, "done")
    assert.equal(one.value, two.value)
    assert.not_equal(one.value, play({ ["main.lua"] = source }, { seed = "other" }).value)
  end)

  it("ends a run at its limits, with the code and the place", function()
    local event = play({ ["main.lua"] = workflow "\nwhile true do end" }, { max_instructions = 1e6 })
    assert.equal("instruction_limit", event.error.code)
    assert.equal(3, event.error.where.line)
    event = play({ ["main.lua"] = workflow "local t = {}\nwhile true do t[#t + 1] = ('x'):rep(1000) .. #t end" },
      { cap = 4 * 2 ^ 20 })
    assert.equal("memory_limit", event.error.code)
    event = play({ ["main.lua"] = workflow "while true do time.sleep(1) end" }, { deadline = 0.05 })
    assert.equal("deadline_exceeded", event.error.code)
  end)

  it("lets the loop and other runs go on beside a busy one", function()
    local vm = assert(script.vm { files = { ["busy.lua"] = workflow "while true do end",
      ["main.lua"] = workflow "local n = 0 for i = 1, 5 do n = n + tool.call('t', {}).args and 1 end return n" } })
    local busy = assert(vm:start { path = "busy.lua", seed = "s", now = 1 })
    local ended
    local waiting = task.spawn(function() ended = busy:next() end)
    assert.equal("done", play({ ["main.lua"] = workflow "return 1" }).status)
    assert.is_nil(ended)
    busy:close()
    waiting:join()
    vm:close()
  end)

  it("says that a run was closed under the task that was about to hear of its end", function()
    local vm = assert(script.vm { files = { ["main.lua"] = workflow "return data.get('a', 'b')" } })
    local run = assert(vm:start { path = "main.lua", seed = "s", now = 1 })
    local call = assert(run:next()).calls[1]
    local answers = {}
    assert(run:answer(call.id, true, call.args))
    local waiting = task.spawn(function() answers = { run:next() } end)
    task.yield() -- the script has ended, its follower is woken but has not gone on
    run:close()
    assert(waiting:join() == nil)
    assert.is_nil(answers[1])
    assert.equal("cancelled", answers[2].code)
    vm:close()
  end)

  it("passes errors of calls as tables", function()
    local vm = assert(script.vm { files = { ["main.lua"] = workflow
      [[local ok, err = pcall(model.call, {}) return {err.code, err.retryable, err.details.n}]] } })
    local run = assert(vm:start { path = "main.lua", seed = "s", now = 1 })
    local call = run:next().calls[1]
    assert(run:answer(call.id, false, { code = "provider_error", message = "m", retryable = true, details = { n = 7 } }))
    assert.same({ "provider_error", true, 7 }, value.decode(run:next().value))
    local ok, err = run:answer(call.id, true, call.args)
    assert.is_nil(ok)
    assert.equal("invalid_argument", err.code)
    run:close()
    vm:close()
  end)
end)
