local clock = require "kt.clock"
local engine = require "engine"
local hub = require "engine.hub"
local journal = require "engine.journal"
local json = require "json"
local run = require "engine.run"
local runner = require "engine.runner"
local support = require "engine.support"
local task = require "kt.task"
local value = require "value"

-- Reads, sleeps, runs in parallel, draws random numbers, says things, catches a failure. The answers of its
-- branches come half a second apart: in another order it would be another journal.
local WORKFLOW = [[
workflow { name = "many", run = function(run, input)
  local out = { first = random(), id = uuid(), began = time.now() }
  progress(0, 4, "begun")
  local seen = erp.load()
  out.none = seen.dataset_id == nil
  local swept = erp.sweep { mapping = "identity" }
  out.findings = swept.findings
  time.sleep(0.02)
  out.second = random()
  local parts = parallel {
    function() time.sleep(1.1) return { 3, random() } end,
    function() time.sleep(0.1) local me = data.get("instance", run.instance_id) return { 1, me.name, random() } end,
    function() time.sleep(0.6) local ok, err = pcall(model.call, {}) return { 2, ok, err.code } end,
  }
  out.parts = parts
  out.passed = time.now() - out.began >= 1130
  out.began = nil
  result.partial(out)
  time.sleep(0.01)
  out.last = uuid()
  return out
end }
]]

-- Take a run over as another worker would, and go on with it.
local function take_over(project, id, options)
  local doc = assert(project.db:find_and_modify("kt_p_executions", { _id = id },
    { update = { inc = { token = 1 } }, new = true }))
  return runner.start(project, doc, "takeover", options)
end

-- Forget a run the moment the event `seq` is in the store, as a crash would. To be called before the
-- run can have written it.
local function abandon_at(id, seq)
  local listener
  listener = function(event)
    -- Chunks may hold more than one event: at the first that is not before.
    if event.seq and event.seq >= seq then
      hub.unsubscribe(id, listener)
      local entry = runner.get(id)
      entry.run.writer.lost = true
      entry.run.signal:signal()
    end
  end
  hub.subscribe(id, listener)
  return function() hub.unsubscribe(id, listener) end
end

-- The journal without what a rebuild adds or moves: resumed events, their numbers, and times.
local function bytes_of(project, id)
  local chunks = assert(project.db:find(journal.COLLECTION, journal.chunks_of(id),
    { sort = { { "_id", 1 } }, limit = 1000 }))
  local parts = {}
  for _, chunk in ipairs(chunks) do
    for _, record in ipairs(assert(journal.unpack(chunk.events))) do
      if record.t ~= "execution.resumed" then
        record.a, record.s = nil, nil
        if record.t then
          record.d.duration_ms, record.d.worker = nil, nil
          if record.d.metrics then record.d.metrics.duration_ms, record.d.metrics.queued_ms = nil, nil end
        end
        parts[#parts + 1] = journal.pack(record)
      end
    end
  end
  return table.concat(parts)
end

describe("a run that is rebuilt from its journal", function()
  local project, instance

  setup(function()
    support.open()
    journal.FLUSH_SECONDS = 0 -- each event is a chunk of its own
    project, instance = support.project(WORKFLOW, { files = support.erp_files() })
  end)

  before_each(support.start)
  after_each(support.stop)

  teardown(function()
    journal.FLUSH_SECONDS = 0.1
    support.close()
  end)

  it("goes on to the same journal and result, wherever it was cut off", function()
    -- The same id gives the same random numbers, so the run is repeated under its id.
    local whole = support.run(project, instance)
    assert.equal("completed", whole.status, whole.error ~= json.null and whole.error.message or nil)
    local id, last = whole.execution_id, whole.last_seq
    local bytes, output = bytes_of(project, id), json.encode(whole.result.output)
    assert.is_true(last >= 7)
    local first = assert(project.db:find_one("kt_p_executions", { _id = id }))
    first.status, first.token, first.last_seq = "running", 1, 0
    first.finished_at, first.duration_ms, first.stop_reason, first.usage, first.error = nil, nil, nil, nil, nil
    for seq = 1, last - 1 do
      project.db:delete_many(journal.COLLECTION, journal.chunks_of(id))
      project.db:delete_many("kt_p_results", { execution_id = id })
      first.started_at = value.date(clock.now())
      first.deadline_at = value.date(clock.now() + 900000)
      assert(project.db:replace_one("kt_p_executions", { _id = id }, first))
      local stop = abandon_at(id, seq)
      runner.start(project, assert(project.db:find_one("kt_p_executions", { _id = id })))
      support.gone(id)
      stop()
      assert.is_nil(project.db:find_one("kt_p_results", { execution_id = id }), "a half result is visible")
      take_over(project, id)
      local doc = support.ended(project, id)
      assert.equal("completed", doc.status, "cut off at " .. seq)
      assert.equal(output, json.encode(doc.result.output), "cut off at " .. seq)
      assert.is_true(bytes == bytes_of(project, id), "another journal when cut off at " .. seq)
      assert.equal(last + 1, doc.last_seq)
      support.events(project, id) -- seq has no gap
    end
  end)

  it("goes on after being cut off again and again", function()
    local accepted = support.accept(project, instance)
    local id = accepted.execution_id
    local stop, cuts = abandon_at(id, 2), 0
    while cuts < 4 do
      support.gone(id)
      stop()
      -- A chunk may hold all that is left; then it has ended.
      if project.db:find_one("kt_p_executions", { _id = id }).status ~= "running" then break end
      cuts = cuts + 1
      -- after the event that tells that it was resumed
      stop = abandon_at(id, assert(journal.last_seq(project.db, id)) + 2)
      take_over(project, id)
      if cuts == 4 then stop() end
    end
    local doc = support.ended(project, id)
    assert.equal("completed", doc.status)
    local types = support.events(project, id)
    local counts = {}
    for _, type in ipairs(types) do counts[type] = (counts[type] or 0) + 1 end
    assert.is_true(cuts >= 1)
    assert.equal(cuts, counts["execution.resumed"])
    assert.equal(1, counts["sweep.completed"])
    assert.equal(1, project.db:count("kt_p_results", { execution_id = id }))
  end)

  it("stops one whose script asks something else, with the place", function()
    local sources = {
      name = [[workflow { name = "d", run = function() %s time.sleep(0.01) time.sleep(8) end }]],
    }
    local odd, its_instance = support.project(sources.name:format('data.get("instance", "a")'))
    -- The script is the same, the journal is not: another run's answers are put under its name.
    local good = support.accept(odd, its_instance, { timeout_seconds = 60 })
    for _ = 1, 500 do
      if #assert(odd.db:find(journal.COLLECTION, journal.chunks_of(good.execution_id))) > 0 then break end
      task.sleep(0.01)
    end
    for _, change in ipairs {
      { function(r) r.n = "data.list" end, "the journal has data.list, the script asks data.get" },
      { function(r) r.h = ("0"):rep(64) end, "with other arguments" },
      { function(r) r.c = 9 end, "the script does not ask it" },
    } do
      local answer = { n = "data.get", c = 1, h = value.hash(value.encode { kind = "instance", id = "a" }),
        o = true, r = value.binary(value.encode(json.null)), a = clock.now() }
      change[1](answer)
      local doc = assert(odd.db:find_one("kt_p_executions", { _id = good.execution_id }))
      doc._id = good.execution_id:sub(1, -5) .. ("%04d"):format(math.random(9999))
      doc.status, doc.token = "running", 1
      assert(odd.db:insert("kt_p_executions", doc))
      assert(odd.db:insert(journal.COLLECTION, { _id = journal.chunk_id(doc._id, 1), token = 1, n = 1, v = 1,
        at = value.date(clock.now()), events = value.binary(
          journal.pack { t = "execution.started", d = {}, s = 1, a = clock.now() } .. journal.pack(answer)) }))
      take_over(odd, doc._id)
      local ended = support.ended(odd, doc._id)
      assert.equal("failed", ended.status)
      assert.equal("nondeterministic", ended.stop_reason)
      assert.equal("nondeterministic", ended.error.code)
      assert.truthy(ended.error.message:find(change[2], 1, true), ended.error.message)
    end
    assert(engine.execution.cancel(odd, support.principal, good.execution_id))
    support.ended(odd, good.execution_id)
  end)

  it("sleeps without its coroutine and wakes from the journal", function()
    local sleepy, its_instance = support.project [[
      workflow { name = "sleepy", run = function()
        local x = random()
        local began = time.now()
        local parts = parallel {
          function() time.sleep(11) return random() end,
          function() time.sleep(12) return random() end,
        }
        return { x = x, parts = parts, slept = (time.now() - began) >= 12000 }
      end }
    ]]
    run.PARK_SECONDS = 0.2
    local shorter = [[
      workflow { name = "sleepy", run = function()
        local x, began = random(), time.now()
        local parts = parallel {
          function() time.sleep(0.6) return random() end,
          function() time.sleep(1.2) return random() end,
        }
        return { x = x, n = #parts, slept = (time.now() - began) >= 1200 }
      end }
    ]]
    local short, short_instance = support.project(shorter)
    local doc = support.run(short, short_instance)
    run.PARK_SECONDS = 10
    assert.equal("completed", doc.status)
    assert.equal(2, doc.result.output.n)
    assert.is_true(doc.result.output.slept)
    local types, events = support.events(short, doc.execution_id)
    assert.same({ "execution.started", "execution.waiting", "execution.resumed", "execution.waiting",
      "execution.resumed", "execution.completed" }, types)
    assert.equal("sleep", events[2].data.reason)
    assert.equal("wake", events[3].data.reason)
    assert.is_true(events[3].at >= events[2].data["until"])
    -- one that sleeps really long is not in memory
    local long = support.accept(sleepy, its_instance)
    for _ = 1, 500 do
      if engine.execution.get(sleepy, long.execution_id).status == "waiting" then break end
      task.sleep(0.01)
    end
    support.gone(long.execution_id)
    assert.equal("waiting", engine.execution.get(sleepy, long.execution_id).status)
    local ready = require("engine.ready").row(sleepy.id)
    assert.is_true(ready.next_run_at.ms > clock.now() + 5000)
    assert(engine.execution.cancel(sleepy, support.principal, long.execution_id))
  end)

  it("is cancelled while it waits, and shows what it had", function()
    local project, its_instance = support.project [[
      workflow { name = "patient", run = function()
        result.partial { so_far = { 1, 2 } }
        pcall(data.get, "instance", "inst_" .. ("0"):rep(32))
        time.sleep(3600)
      end }
    ]]
    local accepted = support.accept(project, its_instance)
    for _ = 1, 500 do
      if engine.execution.get(project, accepted.execution_id).status == "waiting" then break end
      task.sleep(0.01)
    end
    support.gone(accepted.execution_id)
    local doc = assert(engine.execution.cancel(project, support.principal, accepted.execution_id))
    assert.equal("cancelled", doc.status)
    local result = assert(project.db:find_one("kt_p_results", { execution_id = accepted.execution_id }))
    assert.is_true(result.partial)
    assert.same({ so_far = { 1, 2 } }, result.output)
    assert.is_true(result.metrics.steps > 0)
    assert.is_nil(project.db:find_one("kt_p_executions", { _id = accepted.execution_id }).parked)
  end)

  it("is given back by a worker that drains, and ends elsewhere", function()
    local slow, its_instance = support.project [[
      workflow { name = "slow", run = function() local a = random() time.sleep(0.8) return { a, random() } end }
    ]]
    local accepted = support.accept(slow, its_instance)
    engine.drain(0.1)
    local doc = assert(engine.execution.get(slow, accepted.execution_id))
    assert.equal("queued", doc.status)
    -- a request that came before the drain and was slow is not turned away: another worker runs it
    local late = support.accept(slow, its_instance)
    assert.equal("queued", late.status)
    support.start()
    assert.equal("completed", support.ended(slow, late.execution_id).status)
    doc = support.ended(slow, accepted.execution_id)
    assert.equal("completed", doc.status)
    local types = support.events(slow, accepted.execution_id)
    assert.same({ "execution.started", "execution.resumed", "execution.completed" }, types)
  end)
end)

describe("a worker that drains", function()
  setup(support.open)
  before_each(support.start)
  after_each(support.stop)
  teardown(support.close)

  it("gives back also a run that computes and never waits", function()
    local busy, its_instance = support.project [[
      workflow { name = "busy", run = function() time.sleep(0.01) progress(1) while true do end end }
    ]]
    local accepted = support.accept(busy, its_instance)
    local follower = assert(require("engine.follow").open(busy.id, accepted.execution_id, 0))
    repeat
      local event = assert(follower:next(10))
    until event.type == "progress"
    follower:close()
    engine.drain(0.1)
    local doc = assert(engine.execution.get(busy, accepted.execution_id))
    assert.equal("queued", doc.status)
    assert.equal(0, runner.total())
    assert.equal(0, require("lib.places").master():count("kt_m_workers", {}))
    assert.equal("cancelled",
      assert(engine.execution.cancel(busy, support.principal, accepted.execution_id)).status)
    support.start()
  end)
end)

describe("an accept that was on its way when its worker ended", function()
  setup(support.open)
  before_each(support.start)
  after_each(support.stop)
  teardown(support.close)

  it("is given back", function()
    local queue = require "engine.queue"
    local project, instance = support.project [[workflow { name = "x", run = function() time.sleep(5) end }]]
    runner.releasing = true
    local accepted = support.accept(project, instance)
    queue.draining = true
    repeat
      task.sleep(0.01)
    until runner.total() == 0
    local doc = assert(engine.execution.get(project, accepted.execution_id))
    assert.equal("queued", doc.status)
    assert(engine.execution.cancel(project, support.principal, accepted.execution_id))
  end)
end)

describe("what a dead worker left", function()
  local project, instance

  setup(function()
    support.open()
    project, instance = support.project [[workflow { name = "x", run = function() time.sleep(30) end }]]
  end)

  before_each(support.start)
  after_each(support.stop)

  teardown(support.close)

  it("ends as worker_lost with one result, and waiting runs are armed again", function()
    local accepted = support.accept(project, instance, { timeout_seconds = 86400 })
    local id = accepted.execution_id
    for _ = 1, 500 do
      if engine.execution.get(project, id).status == "waiting" then break end
      task.sleep(0.01)
    end
    local doc = assert(project.db:find_one("kt_p_executions", { _id = id }))
    doc._id, doc.status, doc.owner_epoch = id:sub(1, -4) .. "abc", "running", "dead"
    assert(project.db:insert("kt_p_executions", doc))
    local master = require("lib.places").master()
    assert(master:delete_one("kt_m_ready", { _id = project.id }))
    assert(master:insert("kt_m_workers", { _id = "dead", slot = 0, host = "elsewhere", pid = 1, process_start = "1",
      lease_until = value.date(clock.now() - 1) }))
    require("engine.recovery").run({ { _id = "dead" } })
    local ended = support.ended(project, doc._id)
    assert.equal("failed", ended.status)
    assert.equal("worker_lost", ended.stop_reason)
    assert.equal("worker_lost", ended.error.code)
    assert.is_true(ended.error.retryable)
    assert.equal(1, project.db:count("kt_p_results", { execution_id = doc._id }))
    assert.is_nil(master:find_one("kt_m_workers", { _id = "dead" }))
    assert.truthy(master:find_one("kt_m_ready", { _id = project.id }))
    assert(engine.execution.cancel(project, support.principal, id))
  end)

  it("cannot write any more: its token is old", function()
    local slow, its_instance = support.project [[
      workflow { name = "zombie", run = function() time.sleep(0.3) return "zombie" end }
    ]]
    local accepted = support.accept(slow, its_instance)
    assert(slow.db:update_one("kt_p_executions", { _id = accepted.execution_id }, { inc = { token = 1 } }))
    support.gone(accepted.execution_id)
    local doc = assert(engine.execution.get(slow, accepted.execution_id))
    assert.equal("running", doc.status)
    assert.is_nil(slow.db:find_one("kt_p_results", { execution_id = accepted.execution_id }))
  end)
end)
