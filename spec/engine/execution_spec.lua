local engine = require "engine"
local json = require "json"
local lease = require "engine.lease"
local metrics = require "kt.metrics"
local run = require "engine.run"
local runner = require "engine.runner"
local support = require "engine.support"

describe("an execution", function()
  setup(support.open)

  before_each(support.start)
  after_each(support.stop)

  teardown(support.close)

  it("is born running, ends with one result, in two commits' worth of documents", function()
    local project, instance = support.project [[
      workflow { name = "plain", run = function(run, input) return { got = input.prompt, who = run.project_id } end }
    ]]
    local accepted = support.accept(project, instance, { input_data = { prompt = "Grüße" } })
    assert.equal("running", accepted.status)
    local doc = support.ended(project, accepted.execution_id)
    assert.equal("completed", doc.status)
    assert.equal("done", doc.stop_reason)
    assert.same({ got = "Grüße", who = project.id }, doc.result.output)
    assert.equal(2, doc.last_seq)
    assert.same({ "execution.started", "execution.completed" }, (support.events(project, doc.execution_id)))
    assert.equal(1, project.db:count("kt_p_results", { execution_id = doc.execution_id }))
    assert.equal(1, project.db:count("kt_p_audit_log", { target_id = doc.execution_id, action = "execution.create" }))
    assert.is_false(doc.result.partial)
    assert.equal(doc.snapshot.bundle, select(2, support.events(project, doc.execution_id))[1].data.snapshot.bundle)
  end)

  it("fails with the place in the script, and keeps what was partial", function()
    local project, instance, agent = support.project(table.concat({
      'workflow { name = "broken", run = function()',
      '  result.partial { half = 1 }',
      '  error("no good")',
      'end }' }, "\n"))
    local doc = support.run(project, instance)
    assert.equal("failed", doc.status)
    assert.equal("error", doc.stop_reason)
    assert.equal("script_error", doc.error.code)
    assert.equal("agents/" .. agent .. "/workflow.lua", doc.error.where.script)
    assert.equal(3, doc.error.where.line)
    assert.truthy(doc.error.message:find("no good", 1, true))
    assert.is_true(doc.result.partial)
    assert.same({ half = 1 }, doc.result.output)
  end)

  it("survives whatever a script raises", function()
    local project, instance, agent = support.project(table.concat({
      'workflow { name = "raises", run = function(run, input)',
      '  if input.prompt == "bytes" then error("caf\\233") end',
      '  if input.prompt == "code" then error { code = "Not\\n a code", message = "caf\\233" } end',
      '  if input.prompt == "deadline" then error { code = "deadline_exceeded", message = "mine" } end',
      '  if input.prompt == "branch" then return parallel { function() error("here") end } end',
      '  return require("nowhere")',
      'end }' }, "\n"))
    local path = "agents/" .. agent .. "/workflow.lua"
    local function raised(prompt, code, message, line)
      local doc = support.run(project, instance, { input_data = { prompt = prompt } })
      assert.same({ "failed", "error", code }, { doc.status, doc.stop_reason, doc.error.code })
      assert.truthy(doc.error.message:find(message, 1, true), doc.error.message)
      assert.same({ script = path, line = line }, doc.error.where)
    end
    raised("bytes", "script_error", "caf?", 2)
    raised("code", "script_error", "caf?", 3)
    raised("deadline", "deadline_exceeded", "mine", 4)
    raised("branch", "script_error", "here", 5)
    raised("tail", "script_error", "nowhere", json.null)
  end)

  it("shows a failed call as a structured error that a script can catch", function()
    local project, instance = support.project [[
      workflow { name = "calls", run = function()
        local ok, err = pcall(model.call, { messages = {} })
        local ok2, err2 = pcall(erp.load, "ds_00000000000000000000000000000000")
        local ok3, err3 = pcall(data.get, "secrets", "x")
        return { ok = ok, code = err.code, retryable = err.retryable, dataset = err2.code, kind = err3.code }
      end }
    ]]
    local doc = support.run(project, instance)
    assert.same({ ok = false, code = "tool_not_found", retryable = false, dataset = "dataset_missing",
      kind = "validation_failed" }, doc.result.output)
  end)

  it("reads the project's own documents", function()
    local project, instance = support.project [[
      workflow { name = "reads", run = function(run)
        local me = data.get("instance", run.instance_id)
        local list = data.list("execution", { status = "running" })
        return { name = me.name, id = list[1].execution_id, n = #list, none = data.get("dataset", "ds_x") == require("json").null }
      end }
    ]]
    local doc = support.run(project, instance)
    assert.same({ name = "Spec", id = doc.execution_id, n = 1, none = true }, doc.result.output)
  end)

  it("gives handles for large answers", function()
    local project, instance = support.project [[
      workflow { name = "large", run = function(run, input)
        local all = data.list("execution", {})
        return { blob = all.blob, bytes = all.bytes }
      end }
    ]]
    support.run(project, instance, { metadata = { text = ("x"):rep(40000) } })
    local doc = support.run(project, instance)
    assert.equal(64, #doc.result.output.blob)
    local text = assert(project.db:blob_get(doc.result.output.blob))
    assert.equal(doc.result.output.bytes, #text)
    assert.equal(2, #json.decode(text))
  end)

  it("refuses an output of more than a megabyte", function()
    local project, instance = support.project [[
      workflow { name = "huge", run = function() return ("x"):rep(1100000) end }
    ]]
    local doc = support.run(project, instance)
    assert.equal("failed", doc.status)
    assert.equal("output_limit", doc.error.code)
  end)

  it("holds input and output to the schemas of its agent", function()
    local project, instance = support.project([[
      workflow { name = "s", run = function(run, input) return { n = input.n, list = { 1 } } end }
    ]], {
      input_schema = { type = "object", required = json.array { "n" }, properties = { n = { type = "number" } } },
      output_schema = { type = "object", properties = { n = { type = "integer" }, list = { type = "array" } } },
    })
    for input, wanted in pairs { [{}] = "required", [{ n = "1" }] = "type" } do
      local doc, err = engine.execution.accept(project, support.principal, { instance_id = instance, input_data = input, variables = {} })
      assert.is_nil(doc)
      assert.same({ "validation_failed", "/input_data/n", wanted }, { err.code, err.errors[1].pointer, err.errors[1].code })
    end
    local doc = support.run(project, instance, { input_data = { n = 1 } })
    assert.same({ "completed", 1, false }, { doc.status, doc.result.output.n, doc.result.partial })
    doc = support.run(project, instance, { input_data = { n = 1.5 } })
    assert.same({ "failed", "error", "script_error" }, { doc.status, doc.stop_reason, doc.error.code })
    assert.equal("/n", doc.error.details.errors[1].pointer)
    assert.same({ 1.5, true }, { doc.result.output.n, doc.result.partial })
  end)

  it("queues over the quota and serves the queue by priority, then in order", function()
    local project, instance = support.project([[
      workflow { name = "slow", run = function() time.sleep(0.2) return 1 end }
    ]], { quotas = { running = 1, queued = 3 } })
    local first = support.accept(project, instance)
    local low = support.accept(project, instance, { priority = 1 })
    local a = support.accept(project, instance)
    local b = support.accept(project, instance)
    assert.same({ "running", "queued", "queued", "queued" }, { first.status, low.status, a.status, b.status })
    local _, err = engine.execution.accept(project, support.principal, {
      instance_id = instance, input_data = {}, variables = {} })
    assert.equal("queue_full", err.code)
    local ends = {}
    for _, id in ipairs { first.execution_id, a.execution_id, b.execution_id, low.execution_id } do
      local doc = support.ended(project, id)
      assert.equal("completed", doc.status)
      ends[#ends + 1] = doc.started_at
    end
    local sorted = { unpack(ends) }
    table.sort(sorted)
    assert.same(sorted, ends)
    assert.equal(0, runner.running(project.id))
  end)

  it("starts a delayed one when its time has come", function()
    local project, instance = support.project [[workflow { name = "later", run = function() return 1 end }]]
    local at = tostring(require("value").date(require("kt.clock").now() + 600))
    local accepted = support.accept(project, instance, { run_at = at })
    assert.equal("delayed", accepted.status)
    local doc = support.ended(project, accepted.execution_id)
    assert.equal("completed", doc.status)
    assert.is_true(doc.started_at >= at)
  end)

  it("waits for one that is asked for synchronously", function()
    local project, instance = support.project [[workflow { name = "sync", run = function() time.sleep(0.05) return 7 end }]]
    local doc = support.accept(project, instance, { async_execution = false })
    assert.equal("completed", doc.status)
    assert.equal(7, doc.result.output)
  end)

  it("ends at its timeout, also one that does not listen", function()
    local project, instance = support.project [[
      workflow { name = "endless", run = function(run, input)
        result.partial("so far")
        while true do pcall(time.sleep, 3600) end
      end }
    ]]
    local doc = support.run(project, instance, { timeout_seconds = 1 })
    assert.equal("timed_out", doc.status)
    assert.equal("deadline", doc.stop_reason)
    assert.equal("so far", doc.result.output)
    assert.is_true(doc.result.partial)
    assert.equal("execution.timed_out", (select(2, support.events(project, doc.execution_id)))[doc.last_seq].type)
  end)

  it("is killed when it computes on after its timeout, or takes too much memory", function()
    run.GRACE_SECONDS = 0.3
    local busy, instance = support.project [[workflow { name = "busy", run = function() while true do end end }]]
    local doc = support.run(busy, instance, { timeout_seconds = 1 })
    assert.equal("timed_out", doc.status)
    assert.equal(1, doc.error.where.line) -- where it computed
    local other, other_instance = support.project [[workflow { name = "x", run = function() return 1 end }]]
    local hog, hog_instance = support.project [[
      workflow { name = "hog", run = function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end }
    ]]
    local hogged = support.accept(hog, hog_instance)
    local looping = support.accept(busy, instance, { timeout_seconds = 60 })
    assert.equal("completed", support.run(other, other_instance).status) -- beside them
    doc = support.ended(hog, hogged.execution_id)
    assert.same({ "failed", "memory_limit" }, { doc.status, doc.error.code })
    assert(engine.execution.cancel(busy, support.principal, looping.execution_id))
    assert.equal("cancelled", support.ended(busy, looping.execution_id).status)
    run.GRACE_SECONDS = 5
  end)

  it("is cancelled while it waits in a call, and can clean up", function()
    local project, instance = support.project [[
      workflow { name = "careful", run = function()
        local ok, err = pcall(time.sleep, 5)
        result.partial { stopped_by = err.code }
        time.sleep(5)
      end }
    ]]
    local accepted = support.accept(project, instance)
    support.eventually(function() -- it asks
      local entry = runner.get(accepted.execution_id)
      return entry.run and next(entry.run.open)
    end)
    local doc = assert(engine.execution.cancel(project, support.principal, accepted.execution_id, "enough"))
    assert.is_true(doc.cancel_requested)
    doc = support.ended(project, accepted.execution_id)
    assert.equal("cancelled", doc.status)
    assert.same({ stopped_by = "cancelled" }, doc.result.output)
    -- again is fine, of an ended one it is not
    assert.equal("cancelled", assert(engine.execution.cancel(project, support.principal, doc.execution_id)).status)
    local second, its_instance = support.project [[workflow { name = "x", run = function() end }]]
    local other = support.run(second, its_instance)
    assert.equal("completed", other.status)
    local _, err = engine.execution.cancel(second, support.principal, other.execution_id)
    assert.equal("invalid_state", err.code)
    _, err = engine.execution.cancel(project, support.principal, "exec_1_00000000000000000000000000000000")
    assert.equal("not_found", err.code)
  end)

  it("is cancelled while it is queued, delayed or waits long", function()
    local project, instance = support.project([[
      workflow { name = "long", run = function(run, input) time.sleep(input.prompt and 3600 or 8) end }
    ]], { quotas = { running = 1 } })
    local waiting = support.accept(project, instance, { input_data = { prompt = "x" }, timeout_seconds = 86400 })
    support.eventually(function()
      return engine.execution.get(project, waiting.execution_id).status == "waiting"
    end)
    local running = support.accept(project, instance)
    support.eventually(function() -- the place of the one that waits may be given back a moment later
      return engine.execution.get(project, running.execution_id).status == "running"
    end)
    local queued = support.accept(project, instance)
    local delayed = support.accept(project, instance, { run_at = "2999-01-01T00:00:00Z" })
    for _, doc in ipairs { queued, delayed, waiting } do
      local done = assert(engine.execution.cancel(project, support.principal, doc.execution_id))
      assert.equal("cancelled", done.status)
      local types = support.events(project, doc.execution_id)
      assert.equal("execution.cancelled", types[#types])
      assert.equal(1, project.db:count("kt_p_results", { execution_id = doc.execution_id }))
    end
    assert.equal("running", engine.execution.get(project, running.execution_id).status)
    assert(engine.execution.cancel(project, support.principal, running.execution_id))
    assert.equal("cancelled", support.ended(project, running.execution_id).status)
  end)

  it("is refused with a reason that names the field", function()
    local project = support.project [[workflow { name = "x", run = function() end }]]
    local doc, err = engine.execution.accept(project, support.principal,
      { instance_id = "inst_00000000000000000000000000000000", input_data = {}, variables = {} })
    assert.is_nil(doc)
    assert.equal("validation_failed", err.code)
    assert.equal("/instance_id", err.errors[1].pointer)
  end)

  it("keeps its scripts while a new version is pushed", function()
    local registry = require "scripts.registry"
    local source = [[workflow { name = "v", run = function() time.sleep(0.3) return %d end }]]
    local project, instance, agent = support.project(source:format(1))
    local path = "agents/" .. agent .. "/workflow.lua"
    local old = support.accept(project, instance)
    local pushed = assert(registry.push(path, source:format(2), support.principal))
    assert.equal(2, pushed.version)
    local new = support.accept(project, instance)
    local broken, err = registry.push(path, "workflow {\n  name = 'v',\n  run = function( }", support.principal)
    assert.is_nil(broken)
    assert.equal("script_error", err.code)
    assert.same({ script = path, line = 3 }, err.where)
    assert.equal(1, support.ended(project, old.execution_id).result.output)
    assert.equal(2, support.ended(project, new.execution_id).result.output)
    assert.equal(2, support.run(project, instance).result.output)
    assert.not_equal(old.snapshot.bundle, new.snapshot.bundle)
  end)

  it("counts what it does", function()
    local project, instance = support.project [[workflow { name = "n", run = function() end }]]
    support.run(project, instance)
    local text = metrics.render()
    assert.truthy(text:find('kontor_executions_total{project="' .. project.id .. '",status="completed"} 1', 1, true))
    assert.truthy(text:find('kontor_executions_running{project="' .. project.id .. '"} 0', 1, true))
  end)

  it("leaves no run and no claim behind", function()
    assert.equal(0, runner.total())
    assert.equal(0, require("engine.hub").count())
    assert.truthy(lease.epoch())
  end)
end)
