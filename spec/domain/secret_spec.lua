local clock = require "kt.clock"
local fault = require "kt.fault"
local file = require "kt.file"
local json = require "json"
local project = require "domain.project"
local secret = require "domain.secret"
local secret_key = require "domain.secret_key"
local support = require "engine.support"
local value = require "value"

local principal = support.principal
local req = { id = "r1", path = "/x", headers = {} }

local function ctx(of, name, more)
  local c = { req = req, params = { name = name, project_id = of and of.id }, query = { limit = 500 }, principal = principal,
    project = of, route = { operation_id = "secret" } }
  for k, v in pairs(more or {}) do c[k] = v end
  return c
end

local function put(of, name, text, more)
  more = more or {}
  more.body = { value = text }
  return secret.put(ctx(of, name, more))
end

local function get(of, name)
  local result, err = secret.get(ctx(of, name))
  return result and json.decode(result.body), err
end

describe("a secret", function()
  local dir, acme, other
  local kept = { dir = secret.dir, own_key = secret.own_key }

  setup(function()
    support.open()
    assert(secret_key.check()) -- its threads stay
    acme, other = support.project "workflow{ name = 'w', run = function() end }", support.project "workflow{ name = 'w', run = function() end }"
  end)
  teardown(support.close)
  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(file.mkdir(dir))
    secret.dir = function() return dir end
    secret.own_key = function() return true end
    for _, place in ipairs { secret.of_master(), secret.of_project(acme.id, acme.db), secret.of_project(other.id, other.db) } do
      assert(place.db:delete_many(place.coll, { { "key_id", "exists", true } }))
    end
    assert(project.master():delete_many("kt_m_secrets", { _id = "system/rotation" }))
  end)
  after_each(function()
    fault.clear()
    file.remove(dir)
    secret.dir, secret.own_key = kept.dir, kept.own_key
  end)

  it("is set, replaced, shown without its value, and deleted", function()
    assert.equal(204, assert(put(nil, "token", "first value")).status)
    local first = get(nil, "token")
    assert.same({ "token", 1, "system" }, { first.name, first.version, first.updated_by })
    assert.truthy(first.key_id:find("^k_%x+$"))
    assert.is_nil(first.value or first.box or first.nonce)
    assert.equal("first value", secret.value(nil, "token"))
    assert(put(nil, "token", "second value"))
    assert.equal(2, get(nil, "token").version)
    assert.equal("second value", secret.value(nil, "token"))
    assert.equal(204, assert(secret.delete(ctx(nil, "token"))).status)
    for _, f in ipairs { secret.get, secret.delete } do
      assert.equal("not_found", select(2, f(ctx(nil, "token"))).code)
    end
    assert.equal("not_found", select(2, secret.value(nil, "token")).code)
  end)

  it("says what is wrong with a name, and finds none of the service's own", function()
    for _, name in ipairs { "", ".", "..", "a/b", "system/cursor", "a b", "a\n", "ä", ("x"):rep(65), "-a" } do
      local _, err = put(nil, name, "value")
      assert.same({ "validation_failed", "name", "pattern" }, { err.code, err.errors[1].parameter, err.errors[1].code })
      assert.equal("not_found", select(2, get(nil, name)).code)
      assert.equal("not_found", select(2, secret.delete(ctx(nil, name))).code)
      assert.equal("not_found", select(2, secret.value(nil, name)).code)
    end
    for _, name in ipairs { "a", "A_b.c-d", "_x", "9", ("x"):rep(64) } do assert(put(nil, name, "value")) end
    assert.same({ "9", "A_b.c-d", "_x", "a", ("x"):rep(64) }, (function()
      local names = {}
      for i, row in ipairs(json.decode(secret.list(ctx(nil)).body).data) do names[i] = row.name end
      return names
    end)())
  end)

  it("heeds If-Match", function()
    assert.equal("version_mismatch", select(2, put(nil, "a", "value", { if_match = "*" })).code)
    assert(put(nil, "a", "value"))
    assert.equal("version_mismatch", select(2, put(nil, "a", "value", { if_match = '"v2"' })).code)
    assert(put(nil, "a", "value", { if_match = '"v1"' }))
  end)

  it("is the project's own, else that of the whole", function()
    assert(put(nil, "shared", "of the whole"))
    assert(put(nil, "both", "of the whole"))
    assert(put(acme, "both", "of acme"))
    assert(put(acme, "own", "of acme"))
    local of = { id = acme.id, db = acme.db }
    assert.equal("of the whole", secret.value(of, "shared"))
    assert.equal("of acme", secret.value(of, "both"))
    assert.equal("of acme", secret.value(of, "own"))
    assert.equal("of the whole", secret.value({ id = other.id, db = other.db }, "both"))
    assert.equal("not_found", select(2, secret.value({ id = other.id, db = other.db }, "own")).code)
    assert.equal("not_found", select(2, secret.value(nil, "own")).code)
  end)

  it("is in the audit log of its database, without its value", function()
    local since = value.date(clock.now())
    assert(put(nil, "audited", "the value of this"))
    assert(put(acme, "audited", "the value of this"))
    assert(put(acme, "audited", "another value of this"))
    assert(secret.delete(ctx(acme, "audited")))
    local function entries(db, coll)
      local list = assert(db:find(coll, { target_type = "secret", target_id = "audited", { "at", "gte", since } },
        { sort = { { "_id", 1 } } }))
      local out = {}
      for i, e in ipairs(list) do out[i] = { e.action, e.request_id, e.changes[1].from, e.changes[1].to } end
      return out
    end
    assert.same({ { "secret.create", "r1", json.null, "***" } }, entries(project.master(), "kt_m_audit_log"))
    assert.same({ { "secret.create", "r1", json.null, "***" }, { "secret.update", "r1", "***", "***" },
      { "secret.delete", "r1", "***", json.null } }, entries(acme.db, "kt_p_audit_log"))
  end)

  it("opens in its place alone, and whole alone", function()
    assert(put(nil, "a", "value"))
    assert(put(acme, "a", "value of acme"))
    local place = secret.of_project(acme.id, acme.db)
    local doc = assert(acme.db:find_one("kt_p_secrets", { _id = "a" }))
    local function opened(at, changes)
      local d = {}
      for k, v in pairs(doc) do d[k] = v end
      for k, v in pairs(changes or {}) do d[k] = v end
      local text, err = secret.open(at or place, d)
      return text or err.code
    end
    local function flip(bytes, at) return bytes:sub(1, at - 1) .. string.char((bytes:byte(at) + 1) % 256) .. bytes:sub(at + 1) end
    local nonce, box = tostring(doc.nonce), tostring(doc.box)
    assert.equal("value of acme", opened())
    assert.equal("store_corrupt", opened(nil, { _id = "b" }))
    assert.equal("store_corrupt", opened(secret.of_project(other.id, other.db)))
    assert.equal("store_corrupt", opened(secret.of_master()))
    assert.equal("store_corrupt", opened(nil, { nonce = value.binary(flip(nonce, 1)) }))
    assert.equal("store_corrupt", opened(nil, { box = value.binary(flip(box, 1)) }))
    assert.equal("store_corrupt", opened(nil, { box = value.binary(flip(box, #box)) }))
    assert.equal("store_corrupt", opened(nil, { box = value.binary(box:sub(1, 15)) }))
    assert.equal("store_corrupt", opened(nil, { box = "text", nonce = json.null }))
    assert.equal("store_corrupt", opened(nil, { key_id = 7 }))
    assert.equal("store_corrupt", opened(nil, { key_id = ("x"):rep(100) }))
    local text, err = secret.open(place, { _id = "a", key_id = "k_0123456789abcdef", nonce = doc.nonce, box = doc.box })
    assert.is_nil(text)
    assert.equal("invalid_state", err.code)
    assert.truthy(err.message:find("k_0123456789abcdef", 1, true))
    -- Copied in the store it does not open either, and not that of the whole in its stead.
    doc._id = "copied"
    assert(other.db:insert("kt_p_secrets", doc))
    assert(put(nil, "copied", "of the whole"))
    assert.equal("store_corrupt", select(2, secret.value({ id = other.id, db = other.db }, "copied")).code)
  end)

  it("needs a key where the key file may not seal", function()
    secret.own_key = function() return false end
    for _, made in ipairs { { put(nil, "a", "value") }, { secret_key.rotate(principal) } } do
      assert.is_nil(made[1])
      assert.equal("invalid_state", made[2].code)
      assert.truthy(made[2].message:find("KONTOR_MASTER_KEY", 1, true))
    end
    assert.is_nil(file.stat(dir .. "/master.key"))
    assert.is_nil(project.master():find_one("kt_m_secrets", { _id = "system/rotation" }))
  end)

  it("survives two that set it at once", function()
    local task = require "kt.task"
    local tasks = {}
    for i = 1, 5 do tasks[i] = task.spawn(function() return put(acme, "raced", "value " .. i) end) end
    local set = 0
    for _, t in ipairs(tasks) do
      local done, err = t:join()
      if done then set = set + 1 else assert.equal("conflict", err.code) end
    end
    assert.truthy(set >= 1)
    assert.equal(set, get(acme, "raced").version)
  end)

  describe("under a key that is rotated", function()
    local function all_open(n)
      for i = 1, n do
        assert.equal("value " .. i, secret.value({ id = acme.id, db = acme.db }, "s" .. i))
      end
      assert.equal("of the whole", secret.value(nil, "m"))
    end
    local function fill(n)
      for i = 1, n do assert(put(acme, "s" .. i, "value " .. i)) end
      assert(put(nil, "m", "of the whole"))
    end

    it("is sealed anew, under the same version", function()
      fill(120)
      local before = get(acme, "s1")
      local report = assert(secret_key.rotate(principal, req))
      assert.same({ 121, false, 0 }, { report.resealed, report.resumed, #report.failed })
      local after = get(acme, "s1")
      assert.equal(report.key_id, after.key_id)
      assert.not_equal(before.key_id, after.key_id)
      assert.equal(before.version, after.version)
      assert.equal(before.updated_at, after.updated_at)
      all_open(120)
      assert.equal(0, acme.db:count("kt_p_secrets", { { "key_id", "ne", report.key_id } }))
      local entry = assert(project.master():find_one("kt_m_audit_log", { action = "secret_key.rotate", target_id = report.key_id }))
      assert.same({ before.key_id, report.key_id }, { entry.changes[1].from, entry.changes[1].to })
      local counted = 0
      for _, e in ipairs(assert(acme.db:find("kt_p_audit_log", { action = "secret.reseal", target_id = report.key_id }))) do
        counted = counted + e.count
      end
      assert.equal(120, counted)
    end)

    it("goes on with what was cut off, without another key", function()
      fill(3)
      local keys = assert(require("kt.vault").keys(dir, true))
      -- As after a crash behind the new key: it seals, the secrets are under the old one.
      assert(project.master():insert("kt_m_secrets", { _id = "system/rotation", from = keys.current, started_at = value.date(clock.now()), by = "x" }))
      local new = assert(require("kt.vault").next(dir, keys.current))
      all_open(3)
      assert(put(acme, "s1", "value 1"))
      local report = assert(secret_key.rotate(principal, req))
      assert.same({ new, 3, true }, { report.key_id, report.resealed, report.resumed })
      all_open(3)
      assert.equal(2, #require("kt.vault").keys(dir, true).ids)
      -- As at the next start: nothing is left to do.
      secret_key.resume()
      assert.equal(2, #require("kt.vault").keys(dir, true).ids)
    end)

    it("is rotated once by two that ask at once", function()
      fill(5)
      local task = require "kt.task"
      local tasks = {}
      for i = 1, 3 do tasks[i] = task.spawn(function() return secret_key.rotate(principal, req) end) end
      local ids, resealed = {}, 0
      for _, t in ipairs(tasks) do
        local report = assert(t:join())
        ids[report.key_id] = true
        resealed = resealed + report.resealed
      end
      all_open(5)
      assert.is_nil(project.master():find_one("kt_m_secrets", { _id = "system/rotation" }))
      local last = require("kt.vault").keys(dir, true)
      assert.equal(0, acme.db:count("kt_p_secrets", { { "key_id", "ne", last.current } }))
      assert.truthy(resealed >= 6)
    end)

    it("is left, and named, where its key is not there", function()
      fill(2)
      local lost = assert(acme.db:find_one("kt_p_secrets", { _id = "s2" }))
      assert(acme.db:update_one("kt_p_secrets", { _id = "s2" }, { set = { key_id = "k_0000000000000000" } }))
      local report = assert(secret_key.rotate(principal, req))
      assert.equal(2, report.resealed)
      assert.same({ acme.id, "s2", "k_0000000000000000" },
        { report.failed[1].project_id, report.failed[1].name, report.failed[1].key_id })
      assert.truthy(report.failed[1].message:find("k_0000000000000000", 1, true))
      assert(acme.db:update_one("kt_p_secrets", { _id = "s2" }, { set = { key_id = lost.key_id } }))
      assert.equal("value 2", secret.value({ id = acme.id, db = acme.db }, "s2"))
    end)
  end)
end)
