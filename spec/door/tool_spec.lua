local config = require "kt.config"
local http_tool = require "door.http_tool"
local json = require "json"
local support = require "engine.support"
local task = require "kt.task"
local upstream = require "door.upstream"

local count, http_of = upstream.count, upstream.tool

local function run(tools, body, more)
  local project, instance = support.project(upstream.workflow(tools, body), { tools = tools })
  return support.run(project, instance, more), project, instance
end

local function output(...)
  local doc = run(...)
  assert.equal("completed", doc.status, doc.error ~= json.null and doc.error.code .. ": " .. doc.error.message or nil)
  return doc.result.output, doc
end

local CAUGHT = "local ok, e = pcall(tool.call, T1, input.args or {}) return { ok = ok, e = e }"

describe("a tool", function()
  upstream.hooks(function() return "127.0.0.1:" .. upstream.port end)

  describe("of kind http", function()
    it("sends its arguments and gives content and value", function()
      local out = output({ http_of("POST", "/items/{id}?q={q}", { headers = { ["X-One"] = "1" } }) },
        "return tool.call(T1, { id = 'a/b c', q = 'ü&', n = 1.5, list = { 1, 2 } })")
      assert.is_true(out.ok)
      assert.equal(200, out.status)
      assert.equal("/items/a%2Fb%20c", out.value.path)
      assert.equal("q=%C3%BC%26", out.value.query)
      assert.same({ n = 1.5, list = { 1, 2 } }, out.value.body)
      assert.equal(json.encode(out.value), json.encode(json.decode(out.content)))
      local seen = upstream.seen[1]
      assert.equal("1", seen.headers["x-one"])
      assert.truthy(seen.headers["idempotency-key"]:find("^exec_%d+_%x+:1$"))
      assert.equal("application/json", seen.headers["content-type"])
      assert.truthy(seen.headers["user-agent"]:find("^kontor/"))
    end)

    it("leaves out what is not given, refuses what has no place", function()
      local tool = http_of("GET", "/items/{id}?a={a}&b=1&c={c}")
      local out = output({ tool }, [[
        local out = { tool.call(T1, { id = 7, c = true }).value }
        for i, args in ipairs { {}, { id = "" }, { id = ".." }, { id = { 1 } }, { id = 1, other = 2 } } do
          local ok, e = pcall(tool.call, T1, args)
          out[i + 1] = { code = e.code, error = e.details.errors[1] }
        end
        return out]])
      assert.equal("/items/7", out[1].path)
      assert.equal("b=1&c=true", out[1].query)
      for i, wanted in ipairs { { "/id", "required" }, { "/id", "length" }, { "/id", "pattern" }, { "/id", "type" },
        { "/other", "unknown_field" } } do
        local got = out[i + 1]
        assert.equal("validation_failed", got.code)
        assert.same(wanted, { got.error.pointer, got.error.code })
      end
      assert.equal(1, #upstream.seen)
    end)

    it("gives every status as an answer, follows no redirect", function()
      upstream.behave.moved = function(req) req:respond(302, { location = "/other" }, "over there") end
      upstream.behave.gone = function(req) req:respond(410, { ["content-type"] = "application/json" }, '{"why":1}') end
      local out = output({ http_of("GET", "/moved"), http_of("GET", "/gone") },
        "return { tool.call(T1), tool.call(T2) }")
      assert.same({ false, 302, "over there" }, { out[1].ok, out[1].status, out[1].content })
      assert.is_nil(out[1].value)
      assert.same({ false, 410, { why = 1 } }, { out[2].ok, out[2].status, out[2].value })
      assert.equal(0, count("/other"))
    end)

    it("keeps what is long or no text as a blob", function()
      upstream.behave.long = function(req) req:respond(200, { ["content-type"] = "application/json" }, '"' .. ("ü"):rep(100) .. '"') end
      upstream.behave.bin = function(req) req:respond(200, { ["content-type"] = "image/png" }, "\137PNG\0\255") end
      local out, doc = output({ http_of("GET", "/long", { max_result_bytes = 10 }), http_of("GET", "/bin") },
        "return { tool.call(T1), tool.call(T2) }")
      assert.equal('"üüüü', out[1].content)
      assert.same({ true, true, 202 }, { out[1].ok, out[1].truncated, out[1].bytes })
      assert.is_nil(out[1].value)
      assert.equal(6, out[2].bytes)
      assert.equal("(6 bytes of image/png)", out[2].content)
      local project = assert(require("domain.project").open(doc.project_id))
      assert.equal('"' .. ("ü"):rep(100) .. '"', project.db:blob_get(out[1].blob))
      local _, events = support.events(project, doc.execution_id)
      assert.same({ out[1].blob, true, 202 }, { events[3].data.blob, events[3].data.truncated, events[3].data.bytes })
      assert.is_nil(events[3].data.result)
    end)

    it("carries an answer of 32 KiB whole", function()
      upstream.behave.big = function(req) req:respond(200, {}, ("x"):rep(32768)) end
      local out = output({ http_of("POST", "/big") }, "return { #tool.call(T1).content, #tool.call(T1).content }")
      assert.same({ 32768, 32768 }, out)
    end)

    it("checks arguments and answer by its schemas", function()
      local input = { type = "object", required = json.array { "n" }, properties = { n = { type = "integer", maximum = 3 } } }
      local tools = { http_of("POST", "/a", { input_schema = input }),
        http_of("POST", "/a", { output_schema = { type = "object", required = json.array { "missing" } } }) }
      local out = output(tools, [[
        local ok, e = pcall(tool.call, T1, { n = 4 })
        local ok2, e2 = pcall(tool.call, T2)
        return { ok, e, tool.call(T1, { n = 3 }).ok, ok2, e2 }]])
      assert.is_false(out[1])
      assert.same({ "validation_failed", "/n", "max" }, { out[2].code, out[2].details.errors[1].pointer, out[2].details.errors[1].code })
      assert.is_true(out[3])
      assert.is_false(out[4])
      assert.same({ "tool_error", "/missing" }, { out[5].code, out[5].details.errors[1].pointer })
      assert.equal(2, #upstream.seen)
    end)

    it("has its time", function()
      upstream.behave.hang = function() task.sleep(30) end
      local out = output({ http_of("GET", "/hang", { timeout_seconds = 0.2 }) }, CAUGHT)
      assert.same({ false, "deadline_exceeded", true }, { out.ok, out.e.code, out.e.retryable })
      out = output({ http_of("POST", "/hang", { timeout_seconds = 0.2, writes = true }) }, CAUGHT)
      assert.same({ "deadline_exceeded", false }, { out.e.code, out.e.retryable })
    end)

    it("sends nothing where the policy does not allow it", function()
      http_tool.egress = function() return config.get "KONTOR_EGRESS_ALLOW" end
      local out = output({ http_of("GET", "/a") }, CAUGHT)
      assert.same({ false, "tool_denied", false }, { out.ok, out.e.code, out.e.retryable })
      assert.truthy(out.e.message:find("127.0.0.1", 1, true))
      assert.equal(0, #upstream.seen)
    end)

    it("wants the variables of its headers", function()
      local tool = http_of("GET", "/a", { headers = { Authorization = "env:KONTOR_TOOL_NOT_SET_HERE" } })
      local out = output({ tool }, CAUGHT)
      assert.equal("tool_error", out.e.code)
      assert.equal(0, #upstream.seen)
    end)
  end)

  it("must be the agent's own, and enabled", function()
    local other = http_of("GET", "/a")
    run({ other }, "return 1")
    local out = output({ http_of("GET", "/a", { enabled = false }) }, ([[
      local out = {}
      for i, id in ipairs { T1, %q, "nothing" } do
        local ok, e = pcall(tool.call, id)
        out[i] = e.code
      end
      return out]]):format(other.tool_id))
    assert.same({ "tool_denied", "tool_denied", "tool_denied" }, out)
    assert.equal(0, #upstream.seen)
  end)

  it("is that of the version which the run has pinned", function()
    local tool = http_of("GET", "/first")
    local doc, project, instance = run({ tool }, "if input.wait then time.sleep(0.3) end return tool.call(T1).value.path")
    assert.equal("/first", doc.result.output)
    assert.same({ [tool.tool_id] = 1 }, doc.snapshot.tools)
    local accepted = support.accept(project, instance, { input_data = { wait = true } })
    local master = require("domain.project").master()
    local head = assert(master:find_one("kt_m_tools", { _id = tool.tool_id }))
    head.version, head.http.url = 2, head.http.url:gsub("first", "second")
    assert(master:commit { { op = "replace", coll = "kt_m_tools", filter = { _id = tool.tool_id }, doc = head } })
    assert.equal("/first", support.ended(project, accepted.execution_id).result.output)
    local later = support.run(project, instance)
    assert.equal("/second", later.result.output)
    assert.same({ [tool.tool_id] = 2 }, later.snapshot.tools)
  end)

  it("shows its events, is counted and leaves a row of usage", function()
    upstream.behave.fail = function(req) req:respond(500, {}, "no") end
    local doc, project = run({ http_of("POST", "/a", { writes = true }), http_of("GET", "/fail") },
      "tool.call(T1, { x = 1 }) tool.call(T2) pcall(tool.call, 'nothing') return 1")
    local types, events = support.events(project, doc.execution_id)
    assert.same({ "execution.started", "tool.started", "tool.completed", "tool.started", "tool.completed",
      "execution.completed" }, types)
    local started, done = events[2].data, events[3].data
    assert.same({ "1", 1, { x = 1 } }, { started.call_id, started.step, started.arguments })
    assert.same({ "1", true, false }, { done.call_id, done.ok, done.truncated })
    assert.equal("/a", json.decode(done.result).path)
    assert.equal(#done.result, done.bytes)
    assert.is_false(events[5].data.ok)
    assert.equal(3, doc.result.metrics.tool_calls)
    local rows = assert(project.db:find("kt_p_token_usage", { execution_id = doc.execution_id }, { sort = { { "_id", 1 } } }))
    assert.equal(2, #rows)
    assert.same({ doc.execution_id .. ":3", "tool", true, 1 }, { rows[1]._id, rows[1].kind, rows[1].ok, rows[1].requests })
    assert.is_false(rows[2].ok)
    assert.equal(tostring(rows[1].at):sub(1, 13), rows[1].hour)
  end)

  it("is called side by side", function()
    local here, most = 0, 0
    upstream.behave.slow = function(req)
      here = here + 1
      most = math.max(most, here)
      for _ = 1, 500 do
        if most == 3 then break end
        task.sleep(0.01)
      end
      here = here - 1
      req:respond(200, {}, req.query)
    end
    local out = output({ http_of("GET", "/slow?n={n}") }, [[
      local calls = {}
      for i = 1, 3 do calls[i] = function() return tool.call(T1, { n = i }).content end end
      return parallel(calls)]])
    assert.same({ "n=1", "n=2", "n=3" }, out)
    assert.equal(3, most)
  end)

  it("is given up when the run is cancelled or its time is over", function()
    local gone = 0
    upstream.behave.hang = function(req)
      task.defer(function() gone = gone + 1 end)
      task.sleep(60)
      req:respond(200, {}, "late")
    end
    local project, instance = select(2, run({ http_of("POST", "/hang", { writes = true }) }, "if input.go then tool.call(T1) end"))
    local accepted = support.accept(project, instance, { input_data = { go = true } })
    while count("/hang") == 0 do task.sleep(0.01) end
    assert(require("engine").execution.cancel(project, support.principal, accepted.execution_id))
    local doc = support.ended(project, accepted.execution_id)
    assert.equal("cancelled", doc.status)
    local types, events = support.events(project, accepted.execution_id)
    assert.same({ "execution.started", "tool.started", "tool.completed", "execution.cancelled" }, types)
    assert.equal("cancelled", events[3].data.error.code)
    doc = support.run(project, instance, { input_data = { go = true }, timeout_seconds = 1 })
    assert.same({ "timed_out", "deadline_exceeded" }, { doc.status, doc.error.code })
    for _ = 1, 500 do
      if gone == 2 then break end
      task.sleep(0.01)
    end
    assert.equal(2, gone)
  end)
end)

describe("a tool that is a script", function()
  local registry = require "scripts.registry"
  upstream.hooks()

  local function push(path, source)
    assert(registry.activate({ [path] = source }, { principal = support.principal }))
  end

  local function script_of(path, more)
    local fields = upstream.tool("GET", "/")
    fields.kind, fields.http, fields.script = "script", nil, path
    for k, v in pairs(more or {}) do fields[k] = v end
    return fields
  end

  it("computes in the run, calls the door, and answers as any tool", function()
    push("lib/tool_helper.lua", "return { add = function(a, b) return a + b end }")
    push("tools/sum.lua", [[
      local helper = require "tool_helper"
      tool { name = "sum", description = "Adds.", run = function(args)
        local n = helper.add(args.a, args.b)
        args.a = 99
        time.sleep(0.01)
        return { sum = n, at = time.now() > 0 }
      end }]])
    push("tools/text.lua", "tool { name = 'text', description = 'T', run = function() return 'hällo' end }")
    local t1 = script_of("tools/sum.lua", { input_schema = { type = "object", required = json.array { "a", "b" } } })
    local out, doc = output({ t1, script_of("tools/text.lua", { max_result_bytes = 3 }), script_of "tools/text.lua" }, [[
      local args = { a = 1, b = 2 }
      local list = parallel {
        function() return tool.call(T1, args) end,
        function() return tool.call(T1, { a = 10, b = 20 }) end,
      }
      local ok, e = pcall(tool.call, T1, {})
      return { list[1], list[2], args.a, e.code, tool.call(T2), tool.call(T3) }]])
    assert.same({ true, 3 }, { out[1].ok, out[1].value.sum })
    assert.equal(json.encode(out[1].value), json.encode(json.decode(out[1].content)))
    assert.equal(30, out[2].value.sum)
    assert.equal(1, out[3])
    assert.equal("validation_failed", out[4])
    assert.same({ "hä", true, 6 }, { out[5].content, out[5].truncated, out[5].bytes })
    assert.same({ "hällo", "hällo" }, { out[6].content, out[6].value })
    assert.equal(5, doc.result.metrics.tool_calls)
    local project = assert(require("domain.project").open(doc.project_id))
    local _, events = support.events(project, doc.execution_id)
    local open = {}
    for _, event in ipairs(events) do
      if event.type == "tool.started" then open[event.data.call_id] = event.data.tool_id end
      if event.type == "tool.completed" then
        assert.equal(open[event.data.call_id], event.data.tool_id)
        open[event.data.call_id] = nil
      end
    end
    assert.is_nil(next(open))
    assert.equal(4, project.db:count("kt_p_token_usage", { execution_id = doc.execution_id }))
  end)

  it("fails as a tool, and is the version of the run's bundle", function()
    push("tools/bad.lua", "tool { name = 'bad', description = 'B', run = function(a) if a.plain then error('oh') end "
      .. "error { code = 'mine', message = 'no', retryable = true } end }")
    push("tools/now.lua", "tool { name = 'now', description = 'N', run = function() return 'one' end }")
    local tools = { script_of "tools/bad.lua", script_of "tools/now.lua" }
    local doc, project, instance = run(tools, [[
      if input.wait then time.sleep(0.3) end
      local _, e = pcall(tool.call, T1)
      local _, e2 = pcall(tool.call, T1, { plain = true })
      return { e, e2, tool.call(T2).value }]])
    local out = doc.result.output
    assert.same({ "tool_error", true, "mine" }, { out[1].code, out[1].retryable, out[1].details.code })
    assert.same({ "tool_error", "script_error" }, { out[2].code, out[2].details.code })
    assert.truthy(out[2].message:find("tools/bad.lua:1: oh", 1, true))
    local accepted = support.accept(project, instance, { input_data = { wait = true } })
    push("tools/now.lua", "tool { name = 'now', description = 'N', run = function() return 'two' end }")
    assert.equal("one", support.ended(project, accepted.execution_id).result.output[3])
    assert.equal("two", support.run(project, instance).result.output[3])
  end)

  it("has failed when what it returns or raises cannot be carried", function()
    push("tools/odd.lua", [[tool { name = 'odd', description = 'O', run = function(a)
      if a.what == 'function' then return pcall end
      if a.what == 'ring' then local ring = {} ring[1] = ring return ring end
      if a.what == 'nan' then return { n = 0 / 0 } end
      if a.what == 'long' then return ('x'):rep(2 ^ 20 + 1) end
      if a.what == 'text' then return '\255' end
      if a.what == 'message' then error(('x'):rep(2 ^ 20 + 1)) end
      if a.what == 'code' then error { code = ('x'):rep(2 ^ 20 + 1) } end
      error { code = 'mine', message = function() end }
    end }]])
    local kinds = { "function", "ring", "nan", "long", "message", "code", "other" }
    local out, doc = output({ script_of "tools/odd.lua" }, ([[
      local out = {}
      for i, what in ipairs { "%s" } do
        local _, e = pcall(tool.call, T1, { what = what })
        out[i] = { e.code, #e.message < 1000 }
      end
      return out]]):format(table.concat(kinds, '", "')))
    for i, what in ipairs(kinds) do
      assert.same({ "tool_error", true }, out[i], what)
    end
    local project = assert(require("domain.project").open(doc.project_id))
    local _, events = support.events(project, doc.execution_id)
    local began, ended = 0, 0
    for _, event in ipairs(events) do
      began = began + (event.type == "tool.started" and 1 or 0)
      ended = ended + (event.type == "tool.completed" and 1 or 0)
    end
    assert.same({ #kinds, #kinds }, { began, ended })
  end)

  it("does nothing when it is loaded", function()
    push("tools/early.lua", "pcall(function() tool { name = 'x' } end) "
      .. "tool { name = 'early', description = 'E', run = function() return early end } "
      .. "early = select(2, pcall(time.sleep, 1))")
    local out = output({ script_of "tools/early.lua" }, "return tool.call(T1).value")
    assert.truthy(out:find("not while a script loads", 1, true))
  end)
end)
