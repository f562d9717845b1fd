local hub = require "engine.hub"
local journal = require "engine.journal"
local json = require "json"
local runner = require "engine.runner"
local support = require "engine.support"
local task = require "kt.task"
local upstream = require "door.upstream"

-- Forget a run, as the end of its worker would.
local function crash(id)
  local run = runner.get(id).run
  run.writer.lost = true
  for _, call in pairs(run.open) do
    if call.task then call.task:cancel() end
  end
  run.signal:signal()
end

local function take_over(project, id)
  local doc = assert(project.db:find_and_modify("kt_p_executions", { _id = id },
    { update = { inc = { token = 1 } }, new = true }))
  runner.start(project, doc, "takeover")
  return support.ended(project, id)
end

-- Forget the run when the event of this type is in the store.
local function crash_at(type)
  local publish = hub.publish
  hub.publish = function(id, event)
    publish(id, event)
    if event.type == type then
      hub.publish = publish
      crash(id)
    end
  end
end

local function id_of(req) return req.headers["idempotency-key"]:match("^(.*):%d+$") end

describe("a tool call whose worker ends", function()
  local answered, keys

  upstream.hooks(nil, function()
    answered, keys = nil, {}
    -- What `answered` does happens once, with the first request.
    upstream.behave.pay = function(req)
      keys[#keys + 1] = req.headers["idempotency-key"]
      local act = answered
      answered = nil
      if act and act(req) == "silent" then return task.sleep(1) end
      req:respond(200, {}, "paid " .. #keys)
    end
  end)

  local function go(flags, prepare, method, path)
    local tool = upstream.tool(method or "POST", path or "/pay", flags)
    local project, instance = support.project(upstream.workflow({ tool }, [[
      local ok, answer = pcall(tool.call, T1, { amount = 7 })
      local again = tool.call(T1, { amount = 8 })
      return { ok = ok, answer = answer, again = again.content }]]), { tools = { tool } })
    prepare()
    local id = support.accept(project, instance).execution_id
    support.gone(id)
    local doc = take_over(project, id)
    assert.equal("completed", doc.status, doc.error ~= json.null and doc.error.message or nil)
    local types, events = support.events(project, id)
    return doc.result.output, types, events, project, id
  end

  local writes = { writes = true }

  local function unknown(out, types, events, requests)
    assert.is_false(out.ok)
    assert.same({ "outcome_unknown", false }, { out.answer.code, out.answer.retryable })
    assert.same({ "execution.started", "tool.started", "execution.resumed", "tool.completed", "tool.started",
      "tool.completed", "execution.completed" }, types)
    assert.equal("outcome_unknown", events[4].data.error.code)
    assert.equal(requests, upstream.count("/pay"))
  end

  it("before its intent is written, is made once, later", function()
    local out = go(writes, function()
      -- The intent goes with the first chunk: that one must not be written.
      local make = journal.writer
      journal.writer = function(options)
        journal.writer = make
        local writer = make(options)
        writer.commit = function(self)
          self.lost = true
          return nil, { code = "lost" }
        end
        return writer
      end
    end)
    assert.is_true(out.ok)
    assert.equal("paid 1", out.answer.content)
    assert.equal(2, upstream.count("/pay"))
    assert.not_equal(keys[1], keys[2])
  end)

  it("after its intent, is not made", function()
    local out, types, events = go(writes, function() crash_at "tool.started" end)
    unknown(out, types, events, 1) -- the second call's
  end)

  it("after the request, is not made again", function()
    local out, types, events = go(writes, function()
      answered = function(req)
        crash(id_of(req))
        return "silent"
      end
    end)
    unknown(out, types, events, 2)
  end)

  it("after the answer, before its commit, is not made again", function()
    local out, types, events = go(writes, function()
      answered = function(req)
        local writer = runner.get(id_of(req)).run.writer
        writer.commit = function()
          writer.lost = true
          return nil, { code = "lost" }
        end
      end
    end)
    unknown(out, types, events, 2)
  end)

  it("after the commit, is answered from the journal", function()
    local out, types, _, project, id = go(writes, function() crash_at "tool.completed" end)
    assert.is_true(out.ok)
    assert.equal("paid 1", out.answer.content)
    assert.equal("paid 2", out.again)
    assert.same({ "execution.started", "tool.started", "tool.completed", "execution.resumed", "tool.started",
      "tool.completed", "execution.completed" }, types)
    assert.equal(2, upstream.count("/pay"))
    assert.equal(2, project.db:count("kt_p_token_usage", { execution_id = id }))
  end)

  local function made_again(method, path, flags)
    local out, types, _, project, id = go(flags, function()
      answered = function(req)
        crash(id_of(req))
        return "silent"
      end
    end, method, path)
    assert.is_true(out.ok)
    assert.equal("paid 2", out.answer.content)
    assert.equal(3, #keys)
    assert.equal(keys[1], keys[2])
    assert.not_equal(keys[2], keys[3])
    local times = {}
    for _, type in ipairs(types) do times[type] = (times[type] or 0) + 1 end
    assert.same({ 2, 2 }, { times["tool.started"], times["tool.completed"] })
    assert.equal(2, project.db:count("kt_p_token_usage", { execution_id = id }))
  end

  it("is made again with its key when it is idempotent", function()
    made_again("POST", "/pay", { writes = true, idempotent = true })
  end)

  it("is made again with its key when it only reads", function()
    made_again("GET", "/pay?amount={amount}", {})
  end)

  it("of a side-by-side call, loses only that one", function()
    local tool = upstream.tool("POST", "/pay", writes)
    local project, instance = support.project(upstream.workflow({ tool }, [[
      local function call(n) return function()
        local ok, answer = pcall(tool.call, T1, { n = n })
        return ok and "done" or answer.code
      end end
      return parallel { call(1), call(2), call(3) }]]), { tools = { tool } })
    local arrived = 0
    upstream.behave.pay = function(req)
      arrived = arrived + 1
      local n = tonumber(req.headers["idempotency-key"]:match("%d+$"))
      if n == 2 then
        local run = runner.get(id_of(req)).run
        while run.steps < 2 do task.sleep(0.01) end
        crash(id_of(req))
        return task.sleep(1)
      end
      req:respond(200, {}, "x")
    end
    local id = support.accept(project, instance).execution_id
    support.gone(id)
    assert.same({ "done", "outcome_unknown", "done" }, take_over(project, id).result.output)
    assert.equal(3, arrived)
  end)
end)
