-- The daily work of projects: when it is due, that it is done once, and by one.
local backup = require "domain.backup"
local clock = require "kt.clock"
local daily = require "engine.daily"
local json = require "json"
local lease = require "engine.lease"
local places = require "lib.places"
local principals = require "http.principal"
local projects = require "domain.project"
local schema = require "http.schema"
local support = require "engine.support"
local usage_rows = require "engine.usage"
local value = require "value"

local DAY, HOUR, MINUTE = 86400000, 3600000, 60000
local make, prune = backup.make, backup.prune
local who = principals.system()

describe("the daily work", function()
  local today, n, id, made, kept, failure, during = nil, 0, nil, nil, nil, nil, nil

  -- Day of this test, and time of day.
  local function at(day, hours, minutes) clock.set(today + day * DAY + (hours or 0) * HOUR + (minutes or 0) * MINUTE) end

  setup(function()
    support.open()
    backup.make = function(project_id)
      made[#made + 1] = project_id
      if during then during() end
      if failure then return nil, failure end
      return {_id = "bak_" .. ("0"):rep(31) .. #made}
    end
    backup.prune = function(project_id, keep)
      kept[#kept + 1] = {project_id, keep}
      return 0
    end
  end)
  teardown(function()
    backup.make, backup.prune = make, prune
    support.close()
  end)

  local function body(fields, before)
    fields.project_name, fields.customer_name = "P", "C"
    fields.project_id = before and before._id or id
    local plain, checked = schema.check(projects.types.project, fields, before and "replace" or "create", {principal = who})
    return assert(plain, "the project's document has faults"), checked
  end

  before_each(function()
    -- Each test lives after the one before, with a project of its own alone.
    today = (today or math.floor(clock.now() / DAY) * DAY) + 1000 * DAY
    for _, doc in ipairs(assert(places.master():find("kt_m_projects", {}))) do
      assert(places.master():delete_one("kt_m_projects", {_id = doc._id}))
    end
    at(0, 10)
    assert(lease.start{slot = 0, epoch = "daily-a"})
    n, made, kept, failure, during = n + 1, {}, {}, nil, nil
    id = "daily-" .. n .. "-" .. ("%.0f"):format(clock.monotonic() * 1e6)
  end)
  after_each(function()
    places.master():delete_many("kt_m_workers", {})
    clock.set()
  end)

  local none = {events = 0, datasets = 0, findings = 0, results = 0, token_usage = 0, audit = 0}

  local function project(fields)
    fields.retention_days = fields.retention_days or none
    assert(projects.create{principal = who, body = (body(fields))})
  end

  local function change(fields)
    fields.retention_days = fields.retention_days or none
    local ctx = {principal = who, params = {project_id = id}, req = {id = "r", headers = {}}}
    ctx.body, ctx.checked = body(fields, {_id = id})
    assert(projects.replace(ctx))
  end

  local function row() return places.master():find_one("kt_m_daily", {_id = id}) end

  -- How many backups a look makes.
  local function look()
    local before = #made
    assert(daily.look())
    return #made - before
  end

  it("makes a backup at HH:MM, each day, and keeps N", function()
    project{backup = {at = "03:00", keep = 4}}
    assert.equal(0, look())
    at(1, 2, 59)
    assert.equal(0, look())
    at(1, 3)
    assert.equal(1, look())
    assert.equal(0, look())
    at(1, 23)
    assert.equal(0, look())
    at(2, 3, 1)
    assert.equal(1, look())
    assert.same({{id, 4}, {id, 4}}, kept)
    assert.same({id, id}, made)
    assert.is_nil(row().owner)
    local entries = assert(places.master():find("kt_m_audit_log", {{"action", "eq", "project.backup"}, {"target_id", "eq", id}}))
    assert.equal(2, #entries)
    assert.equal("ok", entries[1].outcome)
  end)

  it("says when it is due next", function()
    project{backup = {at = "03:00"}}
    assert.equal(today + DAY + 3 * HOUR, assert(daily.look()))
    change{}
    assert.equal(math.huge, assert(daily.look()))
    assert.is_nil(row().backup_due)
  end)

  it("makes up for days on which nobody was there, once", function()
    project{backup = {at = "03:00"}}
    at(7, 12) -- also when nobody looked since the project was made
    assert.equal(1, look())
    assert.equal(0, look())
    at(12, 1)
    assert.equal(1, look())
    at(12, 3)
    assert.equal(1, look())
  end)

  it("goes by the policy as it is now", function()
    project{backup = {at = "03:00"}}
    assert.equal(0, look())
    at(0, 11)
    change{backup = {at = "09:00"}} -- of tomorrow
    assert.equal(0, look())
    change{backup = {at = "15:30"}}
    assert.equal(0, look())
    at(0, 15, 30)
    assert.equal(1, look())
    change{}
    at(3)
    assert.equal(0, look())
    assert(places.master():update_one("kt_m_projects", {_id = id}, {set = {status = "archived", backup = {at = "03:00", keep = 1}}}))
    assert.equal(0, look())
  end)

  it("says that a backup failed, and tries again after an hour", function()
    project{backup = {at = "03:00"}}
    failure = {code = "storage_full", message = "no space", retryable = true}
    at(1, 3)
    assert.equal(1, look())
    at(1, 3, 59)
    assert.equal(0, look())
    at(1, 4, 1)
    assert.equal(1, look())
    failure = nil
    at(1, 5, 2)
    assert.equal(1, look())
    at(2, 2, 59)
    assert.equal(0, look())
    at(2, 3)
    assert.equal(1, look())
    local codes = {}
    for i, e in ipairs(assert(places.master():find("kt_m_audit_log", {{"action", "eq", "project.backup"}, {"target_id", "eq", id}},
      {sort = {{"at", 1}}}))) do codes[i] = e.code == json.null and e.outcome or e.outcome .. " " .. e.code end
    assert.same({"error storage_full", "error storage_full", "ok", "ok"}, codes)
    assert.equal(2, #kept)
  end)

  it("is one worker's alone, and another's when that one is dead", function()
    project{backup = {at = "03:00"}}
    local seen
    during = function()
      during = nil
      assert.equal("daily-a", row().owner)
      assert(lease.start{slot = 1, epoch = "daily-b"}) -- another worker looks at this moment
      seen = look()
      assert(lease.start{slot = 0, epoch = "daily-a"})
    end
    at(1, 3)
    assert.equal(1, look())
    assert.equal(0, seen)
    -- Killed while it made one: it is still due, and its row is another's.
    assert(places.master():update_one("kt_m_daily", {_id = id}, {set = {owner = "daily-b"}}))
    at(2, 3)
    assert.equal(0, look())
    assert(places.master():delete_one("kt_m_workers", {_id = "daily-b"}))
    assert.equal(1, look())
    -- What this one did not get to give back is its own.
    assert(places.master():update_one("kt_m_daily", {_id = id}, {set = {owner = "daily-a"}}))
    at(3, 3)
    assert.equal(1, look())
  end)

  it("leaves a project alone that is out of use, and comes back to it", function()
    project{backup = {at = "03:00"}}
    assert.equal(0, look())
    assert(places.master():update_one("kt_m_projects", {_id = id}, {set = {status = "erasing"}}))
    at(1, 3)
    assert.equal(0, look())
    assert.is_table(row())
    assert(places.master():update_one("kt_m_projects", {_id = id}, {set = {status = "active"}}))
    failure = {code = "internal", message = "the database went away"}
    during = function() assert(places.master():update_one("kt_m_projects", {_id = id}, {set = {status = "erasing"}})) end
    assert.equal(1, look())
    assert.equal(0, assert(places.master():count("kt_m_audit_log", {{"action", "eq", "project.backup"}, {"target_id", "eq", id}})))
    assert(places.master():delete_one("kt_m_projects", {_id = id}))
    assert.equal(0, look())
    assert.is_nil(row())
  end)

  it("is not put off for long by a clock that was wrong", function()
    project{backup = {at = "03:00"}, retention_days = {events = 1}}
    at(300)
    assert.equal(1, look())
    at(1)
    assert.equal(0, look())
    assert.is_true(row().retention_due.ms <= today + 2 * DAY)
    at(1, 3)
    assert.equal(1, look())
  end)

  it("deletes what is not kept any more, once a day in the first four hours", function()
    project{retention_days = {token_usage = 2, events = 0, datasets = 0, findings = 0}}
    local db = places.project(id)
    for i = 0, 5 do
      assert(db:insert("kt_p_token_usage", usage_rows.row({_id = "exec_1_" .. i, instance_id = "i", agent_id = "a"}, 1, today + i * DAY, 1,
        {kind = "tool", ok = true})))
    end
    assert.equal(0, look())
    assert.equal(6, db:count("kt_p_token_usage", {}))
    local due = row().retention_due.ms
    assert.is_true(due >= today + DAY and due < today + DAY + 4 * HOUR)
    at(4, 5)
    look()
    assert.equal(4, db:count("kt_p_token_usage", {}))
    assert.equal(due + 4 * DAY, row().retention_due.ms)
    local entry = assert(db:find_one("kt_p_audit_log", {action = "retention.applied"}))
    assert.same({{pointer = "/token_usage", from = json.null, to = {deleted = 2, before = tostring(value.date(today + 2 * DAY)):sub(1, 10)}}}, entry.changes)
    at(5, 5)
    look()
    assert.equal(3, db:count("kt_p_token_usage", {}))
    -- What takes long lets others have their turn, and goes on.
    at(6, 5)
    local seconds = daily.SLICE_SECONDS
    daily.SLICE_SECONDS = 0
    assert.equal(0, assert(daily.look()))
    daily.SLICE_SECONDS = seconds
    assert.equal(3, db:count("kt_p_token_usage", {}))
    assert.is_nil(row().owner)
    assert.is_true(assert(daily.look()) > clock.now())
    assert.equal(2, db:count("kt_p_token_usage", {}))
    -- A worker that ends begins nothing.
    at(7, 5)
    daily.draining = true
    look()
    daily.draining = false
    assert.equal(2, db:count("kt_p_token_usage", {}))
  end)
end)
