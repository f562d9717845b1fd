local config = require "kt.config"
local crypto = require "kt.crypto"
local file = require "kt.file"
local task = require "kt.task"
local analyst = require "kt.analyst"

-- The program of the child in these tests: a "rule" is Lua that gets send and the job.
local PROGRAM = [[
return function(job, send)
  local ffi = require "ffi"
  ffi.cdef "int open(const char *, int, ...); int socket(int, int, int); int kill(int, int); int fork(void);"
  ffi.cdef "void *signal(int, void *);"
  if job.fail then return nil, { code = "data_rejected", message = job.fail } end
  for _, t in ipairs(job.tables) do send { type = "table", name = t.name, rows = 1 } end
  require("kt.sandbox").close()
  send { type = "mapped" }
  for _, rule in ipairs(job.rules) do
    send { type = "begin", rule_id = rule.rule_id }
    local out = assert(loadstring(rule.source))(send, job, ffi)
    send { type = "rule", rule_id = rule.rule_id, status = "ok", out = out, done = #job.done }
  end
  send { type = "done" }
  return true
end
]]

describe("kt.analyst", function()
  local home, real_home
  before_each(function()
    home = "/tmp/kontor-spec-" .. crypto.uuid7()
    assert(file.mkdir(home .. "/lua/erp"))
    assert(file.write(home .. "/lua/erp/analyst.lua", PROGRAM))
    os.execute("ln -s " .. config.home() .. "/lua/kt " .. home .. "/lua/kt")
    real_home = config.home
    config.home = function() return home end
  end)
  after_each(function()
    config.home = real_home
    file.remove(home)
  end)

  local function run(sources, opts)
    local job = { tables = { { name = "a.csv" } }, rules = {} }
    for i, source in ipairs(sources) do job.rules[i] = { rule_id = "R" .. i, source = source } end
    opts = opts or {}
    opts.job = job
    for k, v in pairs(opts.extra or {}) do job[k] = v end
    local child = assert(analyst.start(opts))
    local seen, rules = {}, {}
    while true do
      local message, err = child:next()
      if not message then
        child:close()
        return seen, rules, err
      end
      seen[#seen + 1] = message.type
      if message.type == "rule" then rules[#rules + 1] = message end
    end
  end

  it("hands the messages on in order", function()
    local seen, rules, err = run { "return jit.status() and job", "local s = ... s{type='findings', rule_id='R2'} return 7" }
    assert.is_nil(err)
    assert.same({ "table", "mapped", "begin", "rule", "begin", "findings", "rule", "done" }, seen)
    assert.equal(7, rules[2].out)
  end)

  it("compiles to machine code inside the sandbox", function()
    local _, rules = run { "local x = 0 for i = 1, 1e6 do x = x + i end return (jit.status())" }
    assert.is_true(rules[1].out)
  end)

  it("kills a rule at its deadline and goes on with the next", function()
    local seen, rules, err = run({ "return 1", "local s = ... s{type='findings'} while true do end", "return 3" },
      { rule_deadline = 0.5 })
    assert.is_nil(err)
    assert.same({ "ok", "error", "ok" }, { rules[1].status, rules[2].status, rules[3].status })
    assert.same({ "R2", "deadline_exceeded" }, { rules[2].rule_id, rules[2].error.code })
    assert.equal(2, rules[3].done) -- the new child knows what was before
    assert.same({ "table", "mapped", "begin", "rule", "begin", "findings", "rule", "begin", "rule", "done" }, seen)
  end)

  it("survives a rule that ends the process", function()
    -- The handler of AddressSanitizer is taken away: this one crash is meant, and a report fails `make test-asan`.
    local crash = "local _, _, ffi = ... ffi.C.signal(11, nil) ffi.cast('int *', 8)[0] = 1"
    local _, rules, err = run { crash, "os.exit(5)", "return 3" }
    assert.is_nil(err)
    assert.same({ "internal", "internal" }, { rules[1].error.code, rules[2].error.code })
    assert.truthy(rules[2].error.message:find("exit 5", 1, true) or rules[2].error.message:find("exit", 1, true))
    assert.equal(3, rules[3].out)
  end)

  it("ends a rule that burns its CPU time", function()
    local _, rules, err = run({ "while true do end", "return 2" }, { cpu = 1 })
    assert.is_nil(err)
    assert.equal("instruction_limit", rules[1].error.code)
    assert.equal(2, rules[2].out)
  end)

  it("shuts the world out", function()
    if os.getenv "ASAN_OPTIONS" then return pending "no seccomp under ASan" end
    local _, rules, err = run { [[
      local _, _, ffi = ...
      local C = ffi.C
      return { C.open("/etc/passwd", 0), C.open("/tmp/x", 65, 384), C.socket(2, 1, 0), C.kill(1, 0), C.fork(),
        io.open("/etc/passwd") == nil, (pcall(require, "erp.no_such")) }
    ]] }
    assert.is_nil(err)
    assert.same({ -1, -1, -1, -1, -1, true, false }, rules[1].out)
  end)

  it("bounds the memory", function()
    if os.getenv "ASAN_OPTIONS" then return pending "no address space limit under ASan" end
    local _, rules, err = run({ "return (pcall(function() local t = {} for i = 1, 40 do t[i] = ('x'):rep(2^25 + i) end end))",
      "return 2" }, { memory = 512 * 2 ^ 20 })
    assert.is_nil(err)
    assert.same({ false, 2 }, { rules[1].out, rules[2].out })
  end)

  it("names the rule that needs more than it may have", function()
    if os.getenv "ASAN_OPTIONS" then return pending "no address space limit under ASan" end
    local _, rules, err = run({ "return 1", "local t = {} for i = 1, 40 do t[i] = ('x'):rep(2^25 + i) end", "return 3" },
      { memory = 512 * 2 ^ 20 })
    assert.is_nil(err)
    assert.same({ 1, "error", "memory_limit", 3 }, { rules[1].out, rules[2].status, rules[2].error.code, rules[3].out })
  end)

  it("says why a whole analysis failed", function()
    local _, _, err = run({ "return 1" }, { extra = { fail = "bad table" } })
    assert.same({ "data_rejected", "bad table" }, { err.code, err.message })
    assert(file.write(home .. "/lua/erp/analyst.lua", "this is no Lua"))
    _, _, err = run { "return 1" }
    assert.equal("internal", err.code)
    assert(file.write(home .. "/lua/erp/analyst.lua", "return function() os.exit(0) end"))
    _, _, err = run { "return 1" }
    assert.truthy(err.message:find("without a result", 1, true))
    assert(file.write(home .. "/lua/erp/analyst.lua", "return function() while true do end end"))
    _, _, err = run({ "return 1" }, { load_deadline = 0.3 })
    assert.equal("deadline_exceeded", err.code)
  end)

  it("may be closed at any time", function()
    local child = assert(analyst.start { job = { tables = {}, rules = { { rule_id = "R1", source = "while true do end" } } } })
    assert.equal("mapped", child:next().type)
    assert.equal("begin", child:next().type)
    child:close()
    child:close()
    assert.is_nil((child:next()))
    task.sleep(0)
  end)
end)
