-- Migrations: files migrations/NNNN_name.lua, each returning
--   {scope = "master" | "project", run = function(db, ctx) -> true | nil, err}
-- Every number runs once a database, in order, under a lock with a lease; what is done is a row in
-- kt_m_migrations or kt_p_migrations. A migration may be cut off and run again, so it is written to
-- be repeatable (ensure_index, upserts).

local clock = require "kt.clock"
local crypto = require "kt.crypto"
local file = require "kt.file"
local log = require "kt.log"
local task = require "kt.task"
local value = require "value"

local M = {}

-- Whoever dies with the lock holds the next one up no longer than this.
local lease_ms = 10000
local wait_seconds = 0.05
local me = crypto.uuid7()
local home
local known = {master = nil, project = nil}
local done = {} -- database name -> true: nothing is left to run, as far as this worker knows

---Read the list of migrations. Called once at start.
---@param at string the home folder
---@return true|nil
---@return kontor.Error|nil
function M.load(at)
  home = at
  local entries, err = file.list(at .. "/migrations")
  if not entries then return nil, err end
  known.master, known.project = {}, {}
  local seen = {}
  for _, entry in ipairs(entries) do -- sorted by name
    local name = entry.name
    local number = name:match("^(%d%d%d%d)_[a-z0-9_]+%.lua$")
    if number then
      assert(not seen[number], "two migrations have the number " .. number)
      seen[number] = true
      local m = assert(loadfile(at .. "/migrations/" .. name))()
      assert(known[m.scope] and type(m.run) == "function", name .. ": a migration has scope and run")
      table.insert(known[m.scope], {number = tonumber(number), name = name, run = m.run})
    end
  end
  return true
end

local function lock(db, coll)
  while true do
    local now = clock.now()
    local _, err = db:insert(coll, {_id = "lock", owner = me, until_at = value.date(now + lease_ms)})
    if not err then return true end
    if err.code ~= "already_exists" then return nil, err end
    local taken, failed = db:find_and_modify(coll, {_id = "lock", {"until_at", "lte", value.date(now)}},
      {update = {set = {owner = me, until_at = value.date(now + lease_ms)}}, new = true})
    if failed then return nil, failed end
    if taken then return true end
    local ok
    ok, err = task.sleep(wait_seconds)
    if not ok then return nil, err end
  end
end

-- Hold the lock while a migration takes its time.
local function hold(db, coll)
  while task.sleep(lease_ms / 4000) do
    local _, err = db:update_one(coll, {_id = "lock", owner = me}, {set = {until_at = value.date(clock.now() + lease_ms)}})
    if err then log.warn("migrations.hold", {msg = err.code .. ": " .. tostring(err.message)}) end
  end
end

local function unlock(db, coll)
  local _, err = db:delete_one(coll, {_id = "lock", owner = me})
  if err then log.warn("migrations.unlock", {msg = err.code .. ": " .. tostring(err.message)}) end
end

local function applied(db, coll)
  local rows, err = db:find(coll, {{"_id", "ne", "lock"}}, {limit = 10000})
  if not rows then return nil, err end
  local set = {}
  for _, row in ipairs(rows) do set[row.number] = true end
  return set
end

-- A program does not know what a later one has made of a database.
local function newer(scope, set, of)
  local highest, have = 0, 0
  for _, m in ipairs(known[scope]) do highest = math.max(highest, m.number) end
  for number in pairs(set) do have = math.max(have, number) end
  if have <= highest then return nil end
  return {code = "invalid_state", message = ("%s is of a newer version (migration %04d) than this program (%04d)")
    :format(of, have, highest)}
end

local function left(scope, set)
  local list = {}
  for _, m in ipairs(known[scope]) do if not set[m.number] then list[#list + 1] = m end end
  return list
end

local function run_left(scope, db, coll)
  local set, err = applied(db, coll)
  if not set then return nil, err end
  for _, m in ipairs(left(scope, set)) do
    local ok
    ok, err = m.run(db, {home = home})
    if not ok then return nil, err or {code = "internal", message = m.name .. " said no and not why"} end
    ok, err = db:insert(coll, {_id = ("%04d"):format(m.number), number = m.number, name = m.name, at = value.date(clock.now())})
    -- Whoever was held up for longer than its lease finds that the next one has done it too.
    if not ok and err.code ~= "already_exists" then return nil, err end
    log.info("migration.done", {msg = db.name .. " " .. m.name})
  end
  return true
end

---The database is another one from now on, under the same name.
---@param name string
function M.forget(name) done[name] = nil end

---Would this program refuse a database with these migrations, as one of a newer version?
---@param scope "master"|"project"
---@param names string[] as they are called in an export
---@param of string what has them, for the message
---@return true|nil
---@return kontor.Error|nil
function M.accepts(scope, names, of)
  local set = {}
  for _, name in ipairs(names) do set[tonumber(name:match("^%d+")) or math.huge] = true end
  local err = newer(scope, set, of)
  return not err or nil, err
end

---Bring a database up to date. Cheap when it is.
---@param scope "master"|"project"
---@param db table
---@return true|nil
---@return kontor.Error|nil
function M.run(scope, db)
  if done[db.name] then return true end
  local coll = scope == "master" and "kt_m_migrations" or "kt_p_migrations"
  local set, err = applied(db, coll)
  if not set then return nil, err end
  err = newer(scope, set, "the database " .. db.name)
  if err then return nil, err end
  if #left(scope, set) > 0 then
    local ok
    ok, err = lock(db, coll)
    if not ok then return nil, err end
    local holder = task.spawn(hold, db, coll)
    ok, err = run_left(scope, db, coll)
    holder:cancel()
    holder:join()
    unlock(db, coll)
    if not ok then return nil, err end
  end
  done[db.name] = true
  return true
end

return M
