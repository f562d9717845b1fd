-- What a project's retention policy deletes, and that it may be ended anywhere.
local clock = require "kt.clock"
local engine = require "engine"
local ids = require "domain.ids"
local json = require "json"
local retention = require "domain.retention"
local storage = require "domain.storage"
local support = require "engine.support"
local usage_rows = require "engine.usage"
local value = require "value"

local DAY = 86400000

-- Answers that are kept as blobs: one that its result names, one that only its journal does.
local LARGE = [[
workflow { name = "large", run = function()
  local all = data.list("execution", {})
  data.list("instance", {})
  return { blob = all.blob }
end }
]]

describe("retention", function()
  local project, instance, now

  -- Ids never go back in time, so each test lives after the one before.
  local function at(day) clock.set(now + day * DAY) end

  setup(support.open)
  before_each(function()
    now = (now or math.floor(clock.now() / DAY) * DAY) + 1000 * DAY
    at(0)
    support.start()
    project, instance = support.project(LARGE)
  end)
  after_each(function()
    support.stop()
    clock.set()
  end)
  teardown(support.close)

  local function always() return true end

  local function apply(days, go_on)
    local doc = {}
    for k, v in pairs(project.doc) do doc[k] = v end
    doc.retention_days = days
    return retention.apply({id = project.id, number = project.number, db = project.db, doc = doc}, go_on or always)
  end

  local function count(coll, filter) return assert(project.db:count(coll, filter or {})) end

  local function run(text)
    return support.run(project, instance, {metadata = {text = text or ("x"):rep(40000)}}).execution_id
  end

  -- Of a run alone: content that no other run has pinned.
  local function pin(id, text)
    return assert(storage.keep(project.db, text, id)).sha256
  end

  local function has_blob(sha256) return count("kt_p_blobs", {_id = sha256 .. ":0"}) == 1 end

  -- What `kontor db check` asks of a project.
  local function assert_whole()
    local db, bytes, reserved = project.db, 0, 0
    for _, b in ipairs(assert(db:find("kt_p_blobs", {{"bytes", "gte", 0}}, {projection = {"bytes"}}))) do bytes = bytes + b.bytes end
    for _, u in ipairs(assert(db:find("kt_p_uploads", {}))) do reserved = reserved + u.reserved end
    local account = assert(storage.usage(db))
    assert.equal(bytes + reserved, tonumber(account.storage_bytes))
    assert.equal(count("kt_p_datasets", {{"status", "ne", "archived"}}), tonumber(account.datasets))
    local first = {}
    for _, chunk in ipairs(assert(db:find("kt_p_events", {}, {sort = {{"_id", 1}}, projection = {"n"}}))) do
      local id, seq = chunk._id:match("^(.*):(%d+)$")
      local doc = assert(db:find_one("kt_p_executions", {_id = id}), "events of no execution")
      assert(tonumber(seq) == (first[id] or 1) or doc.events_deleted_at, "a gap that is not told")
      first[id] = tonumber(seq) + chunk.n
    end
    for _, doc in ipairs(assert(db:find("kt_p_executions", {{"status", "in", {"completed", "failed", "cancelled", "timed_out"}}}))) do
      assert.equal(1, count("kt_p_results", {_id = doc._id .. ":" .. doc.token}))
    end
  end

  local function entries() return assert(project.db:find("kt_p_audit_log", {action = "retention.applied"}, {sort = {{"_id", 1}}})) end

  local function told(entry)
    local found = {}
    for _, c in ipairs(entry.changes) do found[c.pointer:sub(2)] = c.to.deleted end
    return found
  end

  it("deletes the events of runs that ended before, and the large answers that only they name", function()
    local old, other = run(), run()
    local result = support.ended(project, old).result
    local only = pin(old, "only the journal's")
    local shared = pin(old, "of two runs")
    at(3)
    local young = run()
    assert.equal(shared, pin(young, "of two runs"))
    at(5.9) -- of the third day before this one, and that day is kept
    assert.same({}, assert(apply{events = 5}))
    at(6)
    assert.same({events = 2}, assert(apply{events = 5}))
    assert.equal(0, count("kt_p_events", {{"_id", "prefix", old .. ":"}}) + count("kt_p_events", {{"_id", "prefix", other .. ":"}}))
    assert.is_true(count("kt_p_events", {{"_id", "prefix", young .. ":"}}) > 0)
    assert.is_false(has_blob(only))
    assert.is_true(has_blob(shared))
    assert.is_true(has_blob(result.output.blob))
    assert_whole()
    local list = entries()
    assert.equal(1, #list)
    assert.same({"system", "engine", "retention", project.id, "ok", {events = 2}},
      {list[1].actor, list[1].via, list[1].target_type, list[1].target_id, list[1].outcome, told(list[1])})
    assert.equal(tostring(value.date(now + DAY)):sub(1, 10), list[1].changes[1].to.before)
    assert.same({}, assert(apply{events = 5}))
    assert.equal(1, #entries())
    -- The run is there as it was, but for its events.
    assert.same(result, support.ended(project, old).result)
    local follower, err = engine.follow.open(project.id, old, 0)
    assert.is_nil(follower)
    assert.equal("gone", err.code)
    local runs = require "console.runs"
    for _, what in ipairs{"events", "journal", "stack"} do
      local told, why = runs[what](project, {execution = old})
      assert.is_nil(told)
      assert.equal("gone", why.code)
    end
  end)

  it("keeps all events of a run that has not ended", function()
    local sleeper, sleeps = support.project [[ workflow { name = "sleeps", run = function() time.sleep(40 * 86400) end } ]]
    local id = support.accept(sleeper, sleeps, {timeout_seconds = 86400}).execution_id
    support.eventually(function() return sleeper.db:find_one("kt_p_executions", {_id = id, status = "waiting"}) end)
    project = sleeper
    local before = count "kt_p_events"
    assert.is_true(before > 0)
    engine.drain(1) -- or it would end at its deadline now
    at(40)
    assert.same({}, assert(apply{events = 1, results = 1}))
    assert.equal(before, count "kt_p_events")
  end)

  it("tells a follower whose events go while it reads", function()
    local id = run()
    local follower = assert(engine.follow.open(project.id, id, 0))
    assert.equal("execution.status", assert(follower:next(5)).type)
    assert.equal(1, assert(follower:next(5)).seq)
    follower.queue, follower.behind = {}, true -- as one that is slow and has to read on
    at(3)
    assert.same({events = 1}, assert(apply{events = 1}))
    local event, err = follower:next(5)
    assert.is_nil(event)
    assert.equal("gone", err.code)
    follower:close()
  end)

  it("deletes runs with result, report and blobs", function()
    local files = support.erp_files()
    local handle = assert(io.open("agents/erp-exception-management/workflow.lua"))
    project, instance = support.project(handle:read("*a"), {files = files})
    handle:close()
    local doc = support.run(project, instance)
    local report = doc.result.report
    assert.is_true(has_blob(report.sha256))
    -- As it was pinned before pins knew their run.
    assert(project.db:insert("kt_p_pins", {_id = report.sha256, kept = true}))
    at(3)
    local young = support.run(project, instance).execution_id
    assert.same({results = 1, events = 1}, assert(apply{results = 2}))
    assert.equal(young, assert(project.db:find_one("kt_p_executions", {}))._id)
    assert.equal(1, count "kt_p_results")
    assert.is_false(has_blob(report.sha256))
    assert_whole()
    assert.equal(0, count("kt_p_pins", {{"_id", "prefix", doc.execution_id .. ":"}}))
    local got, err = engine.execution.get(project, doc.execution_id)
    assert.is_nil(got)
    assert.equal("not_found", err.code)
  end)

  -- A dataset of one table; its blob is counted as an upload's would be.
  local function dataset(text, status, sealed_at, more)
    local blob = assert(project.db:blob_put(text))
    local doc = {_id = ids.new("ds"), name = "d", mapping = "identity", status = status, revision = 0,
      tables = json.array{{name = "t", format = "csv", rows = 1, bytes = #text, sha256 = blob.sha256, columns = json.array{}, errors = json.array{}}},
      sealed_at = sealed_at or json.null, created_at = value.date(clock.now())}
    for k, v in pairs(more or {}) do doc[k] = v end
    assert(project.db:commit{{op = "insert", coll = "kt_p_datasets", doc = doc}, storage.op{datasets = status ~= "archived" and 1 or 0, added = 1}})
    return doc._id, blob.sha256
  end

  it("deletes datasets, and the bytes that no other has", function()
    local today = value.date(clock.now())
    local sealed, bytes = dataset("a\n1\n", "sealed", today)
    local used = dataset("a\n2\n", "sealed", today)
    local late = dataset("a\n3\n", "sealed", value.date(now + 3 * DAY))
    local open, opened = dataset("a\n4\n", "open")
    local _, archived = dataset("a\n5\n", "archived", today)
    assert(storage.release(project.db, archived))
    at(3)
    local child, shared = dataset("a\n4\n", "sealed", value.date(clock.now()))
    assert.equal(opened, shared)
    assert(project.db:insert("kt_p_executions", {_id = ids.execution(project.number), status = "delayed", input_data = {dataset_id = used}}))
    assert.same({datasets = 3}, assert(apply{datasets = 2}))
    local left = {}
    for _, doc in ipairs(assert(project.db:find("kt_p_datasets", {}))) do left[doc._id] = true end
    assert.same({[used] = true, [late] = true, [child] = true}, left)
    assert.is_nil(left[sealed] or left[open])
    assert.is_false(has_blob(bytes))
    assert.is_true(has_blob(shared))
    assert_whole()
  end)

  it("deletes findings that no run has found since, usage and audit entries", function()
    local rows, seen = {}, value.date(clock.now())
    for i = 1, 1200 do rows[i] = {_id = ("find_%04d"):format(i), instance_id = "i", rule_id = "r", last_seen_at = i % 3 == 0 and value.date(now + 3 * DAY) or seen} end
    assert(project.db:insert("kt_p_findings", rows))
    for i = 1, 1100 do
      rows[i] = usage_rows.row({_id = ids.execution(1), instance_id = "i", agent_id = "a"}, i, now + (i % 2) * 3 * DAY, 1, {kind = "tool", ok = true})
    end
    for i = 1101, 1200 do rows[i] = nil end
    assert(project.db:insert("kt_p_token_usage", rows))
    local audited = count "kt_p_audit_log"
    at(3)
    support.run(project, instance)
    assert.same({findings = 800, token_usage = 550, audit = audited}, assert(apply{findings = 2, token_usage = 2, audit = 2}))
    assert.equal(400, count("kt_p_findings"))
    assert.equal(550, count("kt_p_token_usage"))
    assert.equal(2, count("kt_p_audit_log")) -- of the run, and of this
    at(6)
    assert.equal(2, assert(apply{audit = 2}).audit)
    assert.equal("retention.applied", assert(project.db:find_one("kt_p_audit_log", {})).action)
  end)

  it("may be ended before any of its commits, and tells in the end what all attempts deleted", function()
    for i = 1, 3 do pin(run(), "answer " .. i) end
    dataset("a\n1\n", "sealed", value.date(clock.now()))
    dataset("a\n1\n", "open")
    assert(project.db:insert("kt_p_findings", {_id = "find_1", instance_id = "i", rule_id = "r", last_seen_at = value.date(clock.now())}))
    at(4)
    local policy, stops = {events = 2, datasets = 2, findings = 2, results = 3}, 0
    repeat
      local passes = stops % 2 -- of every attempt: none, or one commit
      local deleted, err = apply(policy, function()
        passes = passes - 1
        return passes >= 0
      end)
      assert(deleted or err.code == "cancelled", err and err.message)
      assert_whole()
      stops = stops + 1
    until deleted or stops > 60
    assert.is_true(stops > 5)
    local list = entries()
    assert.equal(1, #list)
    assert.same({results = 3, events = 3, datasets = 2, findings = 1}, told(list[1]))
    assert.equal(0, count "kt_p_executions" + count "kt_p_events" + count "kt_p_results" + count "kt_p_datasets" + count "kt_p_pins"
      + count "kt_p_blobs" + count "kt_p_uploads")
  end)

  it("of 0 days keeps all", function()
    run()
    at(3000)
    assert.is_false(retention.wanted{retention_days = {events = 0, datasets = 0}})
    assert.is_true(retention.wanted{retention_days = {events = 0, datasets = 1}})
    local executions, chunks = count "kt_p_executions", count "kt_p_events"
    assert.same({}, assert(apply{events = 0, results = 0, datasets = 0, findings = 0, token_usage = 0, audit = 0}))
    assert.same({executions, chunks}, {count "kt_p_executions", count "kt_p_events"})
  end)
end)
