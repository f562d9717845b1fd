local engine = require "engine"
local hub = require "engine.hub"
local journal = require "engine.journal"
local json = require "json"
local prompts = require "domain.prompt"
local schema = require "http.schema"
local support = require "engine.support"
local task = require "kt.task"
local versions = require "domain.versions"

local function prompt(id, template, more)
  local fields = { prompt_id = id, name = id, template = template }
  for k, v in pairs(more or {}) do fields[k] = v end
  local plain, result = schema.check(prompts.kind.type, fields, "create", { principal = support.principal })
  assert(plain, result and json.encode(result.errors))
  assert(versions.create(prompts.kind, { principal = support.principal, params = {}, body = plain },
    require("domain.project").master()))
end

-- Everything a follower gets until the end.
local function drain(follower, seconds)
  local numbered, passing = {}, {}
  while true do
    local event, err = follower:next(seconds or 20)
    if not event then
      assert(not err, err and err.message)
      return numbered, passing
    end
    if event.seq then
      assert.equal((numbered[#numbered] or { seq = event.seq - 1 }).seq + 1, event.seq)
      numbered[#numbered + 1] = event
    else
      passing[#passing + 1] = event
    end
  end
end

describe("a follower", function()
  local project, instance

  setup(function()
    support.open()
    prompt("spec-follow", "Hello {{ name }}{% include 'spec-included' %}", {
      variables = json.array { { name = "name", type = "string", default = "world" } } })
    prompt("spec-included", "!")
    project, instance = support.project [[
      workflow { name = "many", run = function(run, input)
        local text
        for i = 1, input.n or 1 do
          text = template.render("spec-follow", { name = input.name })
          progress(i, input.n)
          if i % 50 == 0 then time.sleep(0.01) end
        end
        log("warn", "nearly done", { left = 0 })
        return text
      end }
    ]]
  end)

  before_each(support.start)
  after_each(support.stop)

  teardown(support.close)

  it("gets all numbered events in order and the passing ones between, then the end", function()
    local accepted = support.accept(project, instance, { input_data = { n = 3, name = "Ä" } })
    local follower = assert(engine.follow.open(project.id, accepted.execution_id, 0))
    local numbered, passing = drain(follower)
    follower:close()
    local types = {}
    for i, event in ipairs(numbered) do types[i] = event.type end
    assert.same({ "execution.started", "prompt.rendered", "prompt.rendered", "prompt.rendered", "execution.completed" },
      types)
    assert.same({ prompt_id = "spec-follow", version = 1, chars = 8 },
      { prompt_id = numbered[2].data.prompt_id, version = numbered[2].data.version, chars = numbered[2].data.chars })
    assert.equal(1, numbered[1].v)
    assert.equal(accepted.execution_id, numbered[1].execution_id)
    assert.equal("execution.status", passing[1].type)
    local kinds = {}
    for _, event in ipairs(passing) do kinds[event.type] = event end
    assert.equal(3, kinds["progress"].data.done)
    assert.same({ "warn", "nearly done", 0 }, { kinds.log.data.level, kinds.log.data.message, kinds.log.data.fields.left })
    assert.equal("Hello Ä!", support.ended(project, accepted.execution_id).result.output)
  end)

  it("gets the rest when it comes late, and nothing after the end", function()
    local doc = support.run(project, instance, { input_data = { n = 4 } })
    assert.equal("Hello world!", doc.result.output)
    for since = 0, doc.last_seq do
      local follower = assert(engine.follow.open(project.id, doc.execution_id, since))
      assert.equal(doc.status, follower.status)
      assert.equal(doc.last_seq, follower.last_seq)
      local numbered = drain(follower)
      assert.equal(doc.last_seq - since, #numbered)
      if numbered[1] then assert.equal(since + 1, numbered[1].seq) end
      follower:close()
    end
    local follower = assert(engine.follow.open(project.id, doc.execution_id, doc.last_seq + 100))
    assert.equal(0, #drain(follower))
    follower:close()
  end)

  it("loses no numbered event when it is slow", function()
    local accepted = support.accept(project, instance, { input_data = { n = 600 } })
    local fast = assert(engine.follow.open(project.id, accepted.execution_id, 0))
    local slow = assert(engine.follow.open(project.id, accepted.execution_id, 0))
    local got = #drain(fast, 60) -- the slow one reads nothing meanwhile
    assert.equal(602, got)
    assert.equal(602, #drain(slow))
    fast:close()
    slow:close()
    assert.equal(0, hub.count())
    local list = assert(engine.follow.list(project.id, accepted.execution_id, 590, 5))
    assert.same({ 591, 595 }, { list[1].seq, list[5].seq })
  end)

  it("says when nothing came in time, and is told of what it waits for", function()
    local slow, its_instance = support.project [[workflow { name = "s", run = function() time.sleep(0.4) end }]]
    local accepted = support.accept(slow, its_instance)
    local follower = assert(engine.follow.open(slow.id, accepted.execution_id, 0))
    assert.equal("execution.status", follower:next(1).type)
    assert.equal("execution.started", follower:next(2).type)
    local event, err = follower:next(0.02)
    assert.is_nil(event)
    assert.equal("deadline_exceeded", err.code)
    assert.equal("execution.completed", follower:next(5).type)
    assert.is_nil(follower:next(5))
    follower:close()
  end)

  it("is refused for what does not exist", function()
    local follower, err = engine.follow.open(project.id, "exec_1_00000000000000000000000000000000", 0)
    assert.is_nil(follower)
    assert.equal("not_found", err.code)
    assert.equal(0, hub.count())
  end)

  it("of a template with a fault gets the place", function()
    prompt("spec-broken", "one\n{{ missing }}")
    local broken, its_instance, its_agent = support.project [[
      workflow { name = "b", run = function()
        local text = template.render("spec-broken", {})
        return text
      end }
    ]]
    local doc = support.run(broken, its_instance)
    assert.same({ "failed", "template_error" }, { doc.status, doc.error.code })
    assert.same({ script = "agents/" .. its_agent .. "/workflow.lua", line = 2 }, doc.error.where)
    assert.truthy(doc.error.message:find("spec-broken:2:", 1, true), doc.error.message)
    local none, none_instance = support.project [[
      workflow { name = "n", run = function() return template.render("spec-nowhere", {}) end }
    ]]
    doc = support.run(none, none_instance)
    assert.same({ "failed", "not_found" }, { doc.status, doc.error.code })
  end)
end)

describe("the variables of a prompt", function()
  local project, instance
  local variables = json.array { { name = "who", required = true }, { name = "of", default = "the house" } }

  setup(function()
    support.open()
    prompt("spec-asks", "{{ who }} of {{ of }}", { variables = json.array { { name = "who", required = true } } })
    prompt("spec-asks-softly", "{{ who }}!", { variables = variables, undefined = "default" })
    project, instance = support.project([[
      workflow { name = "v", run = function(run, input)
        local given = { of = run.instance_variables.of, who = run.variables.who }
        if input.without then given.who = nil end
        return template.render(input.prompt, given)
      end }
    ]], { variables = variables })
  end)

  before_each(support.start)
  after_each(support.stop)

  teardown(support.close)

  it("are the execution's over the instance's over the agent's defaults", function()
    local doc = support.run(project, instance, { variables = { who = "Ann" }, input_data = { prompt = "spec-asks" } })
    assert.equal("Ann of the house", doc.result.output)
  end)

  it("are missing where nobody gives them", function()
    for id, message in pairs { ["spec-asks"] = "the variable 'who' is required", ["spec-asks-softly"] = "the variable 'who' is required" } do
      local doc = support.run(project, instance,
        { variables = { who = "Ann" }, input_data = { prompt = id, without = true } })
      assert.same({ "failed", "template_error", id .. ": " .. message }, { doc.status, doc.error.code, doc.error.message })
    end
  end)

  it("that the agent requires are asked for with the execution", function()
    local body = { instance_id = instance, input_data = {}, variables = { of = "x" } }
    local doc, err = engine.execution.accept(project, support.principal, body)
    assert.is_nil(doc)
    assert.same({ "validation_failed", "/variables/who", "required" }, { err.code, err.errors[1].pointer, err.errors[1].code })
    assert.equal(1, #err.errors)
  end)
end)

describe("a journal", function()
  setup(support.open)

  before_each(support.start)
  after_each(support.stop)

  teardown(support.close)

  it("packs answers without events into chunks of at most 64 KiB that begin with an event's number", function()
    local project, instance = support.project [[
      workflow { name = "reads", run = function(run, input)
        local n = 0
        for i = 1, 12 do n = n + #data.list("execution", {})[1].metadata.text end
        return n
      end }
    ]]
    local doc = support.run(project, instance, { metadata = { text = ("x"):rep(30000) } })
    assert.equal(12 * 30000, doc.result.output)
    local chunks = assert(project.db:find(journal.COLLECTION, journal.chunks_of(doc.execution_id),
      { sort = { { "_id", 1 } }, limit = 100 }))
    assert.is_true(#chunks >= 6)
    local seq, answers = 0, 0
    for _, chunk in ipairs(chunks) do
      assert.equal(journal.chunk_id(doc.execution_id, seq + 1), chunk._id)
      assert.is_true(#tostring(chunk.events) <= 64 * 1024)
      assert.is_true(chunk.n >= 1)
      for _, record in ipairs(assert(journal.unpack(chunk.events))) do
        if record.t then seq = seq + 1 else answers = answers + 1 end
      end
    end
    assert.equal(12, answers)
    assert.equal(doc.last_seq, seq)
    assert.equal(12, assert(journal.load(project.db, doc.execution_id)).answers and answers)
  end)

  it("is refused where a chunk is missing", function()
    local project, instance = support.project [[
      workflow { name = "w", run = function() time.sleep(0.15) time.sleep(0.15) end }
    ]]
    journal.FLUSH_SECONDS = 0
    local doc = support.run(project, instance)
    journal.FLUSH_SECONDS = 0.1
    assert.equal("completed", doc.status)
    assert(project.db:delete_one(journal.COLLECTION, { _id = journal.chunk_id(doc.execution_id, 1) }))
    local recorded, err = journal.load(project.db, doc.execution_id)
    assert.is_nil(recorded)
    assert.equal("store_corrupt", err.code)
  end)

  it("writes one chunk for a run that does not wait", function()
    local project, instance = support.project [[workflow { name = "w", run = function() return 1 end }]]
    local doc = support.run(project, instance)
    assert.equal(1, project.db:count(journal.COLLECTION, journal.chunks_of(doc.execution_id)))
    task.sleep(0)
  end)
end)
