local file = require "kt.file"
local helper = require "domain.store_helper"
local json = require "json"
local schema = require "http.schema"
local store = require "kt.store"

local who = {id = "dev", name = "dev", role = "admin", via = "dev", projects = {"*"}}

-- Modules that remember databases, fresh for each store.
local function fresh()
  for _, name in ipairs{"domain.migrations", "domain.project"} do package.loaded[name] = nil end
  return require "domain.project", require "domain.migrations"
end

describe("a project", function()
  local db, close, home, project, migrations

  local function migration(body)
    assert(file.write(home .. "/migrations/0001_p.lua", 'return {scope = "project", run = function(db) ' .. body .. " end}"))
    project, migrations = fresh()
    assert(migrations.load(home))
  end

  local function context(id)
    local body = assert(schema.check(project.types.project, {project_id = id, project_name = "P", customer_name = "C"}, "create",
      {principal = who}))
    return {principal = who, body = body, req = {id = "r1"}}
  end

  before_each(function()
    db, close = helper.open()
    home = os.tmpname()
    os.remove(home)
    assert(file.mkdir(home .. "/migrations"))
    migration 'return db:insert("kt_p_made", {_id = "x"})'
  end)
  after_each(function()
    close()
    assert(file.remove(home))
    fresh()
  end)

  it("is made with its database, its number and its audit entry", function()
    local made = json.decode(assert(project.create(context "p1")).body)
    assert.equal("active", made.status)
    assert.is_true(store.exists(helper.name "p1"))
    local opened = assert(project.open "p1")
    assert.equal(made.number, opened.number)
    assert.equal(1, opened.db:count("kt_p_made", {}))
    assert.equal(opened.id, assert(project.by_number(made.number)).id)
    local entries = assert(db:find("kt_m_audit_log", {}))
    assert.equal(1, #entries)
    assert.same({"project.create", "p1", "ok", "dev", "r1"},
      {entries[1].action, entries[1].target_id, entries[1].outcome, entries[1].actor, entries[1].request_id})
    local second = json.decode(assert(project.create(context "p2")).body)
    assert.equal(made.number + 1, second.number)
  end)

  it("that cannot get its database is taken back, and may be made later", function()
    migration 'return nil, {code = "storage_full", message = "full", retryable = true}'
    local made, err = project.create(context "p1")
    assert.is_nil(made)
    assert.equal("storage_full", err.code)
    assert.equal(0, db:count("kt_m_projects", {}))
    assert.equal(1, db:count("kt_m_audit_log", {outcome = "error", code = "storage_full"}))
    migration "return true"
    assert(project.create(context "p1"))
  end)

  it("left half made by a worker that died is not there, and is finished at the next start", function()
    assert(project.create(context "p1"))
    assert(db:update_one("kt_m_projects", {_id = "p1"}, {set = {status = "creating"}}))
    local opened, err = project.open "p1"
    assert.is_nil(opened)
    assert.equal("not_found", err.code)
    assert(project.finish_pending())
    assert(project.open "p1")
  end)

  it("of DEFAULT_PROJECT_ID is made once", function()
    assert(project.ensure_default())
    assert(project.ensure_default())
    assert(project.open "default")
    assert.equal(1, db:count("kt_m_projects", {}))
  end)

  it("that is unknown creates nothing", function()
    local opened, err = project.open "ghost"
    assert.is_nil(opened)
    assert.equal("not_found", err.code)
    assert.is_false(store.exists(helper.name "ghost"))
  end)
end)
