--- Worker incarnations: one row of kt_m_workers each, renewed while it lives. Executions belong to
--- an incarnation by its epoch; what a dead one left is found by its row.
---
--- Whether one is dead: on the same host (machine, pid namespace and data directory) its process is
--- looked up, with the time at which it was started, so a number used again is no mistake. Elsewhere its
--- row must have stayed as it is for the length of a lease, by our own monotonic clock and while we could
--- look: hosts need not agree on the time, and a store that was away for everybody ends nobody.

local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local ffi = require "ffi"
local log = require "kt.log"
local places = require "lib.places"
local task = require "kt.task"
local value = require "value"

local M = {}

local COLLECTION = "kt_m_workers"
M.LEASE_SECONDS = 15
M.RENEW_SECONDS = 5

ffi.cdef [[
int getpid(void);
ssize_t readlink(const char *path, char *buf, size_t size);
]]

local function read_line(path)
  local handle = io.open(path, "r")
  if not handle then
    return nil
  end
  local line = handle:read("*l")
  handle:close()
  return line
end

--- Start of a process in ticks since boot; nil when there is none (a zombie has ended).
---@param pid integer
---@return string?
local function start_of(pid)
  local line = read_line("/proc/" .. pid .. "/stat")
  -- The second field is the name in brackets and may hold anything.
  local state, rest = (line or ""):match("%) (%u) (.*)$")
  if not state or state == "Z" or state == "X" then
    return nil
  end
  local fields = {}
  for field in rest:gmatch("%S+") do
    fields[#fields + 1] = field
  end
  return fields[19]
end

local function host()
  local buf = ffi.new("char[256]")
  local n = ffi.C.readlink("/proc/self/ns/pid", buf, 256)
  return crypto.sha256(table.concat({
    read_line("/proc/sys/kernel/random/boot_id") or "",
    n > 0 and ffi.string(buf, n) or "",
    config.get("KONTOR_DATA_DIR"),
  }, "\n")):sub(1, 32)
end

---@class engine.Incarnation
---@field epoch string
---@field slot integer
---@field command boolean? a command with a job of its own: no worker, but what it leaves is found in the same way

---@type table?
local me

--- Row of this worker. Call once, before anything is claimed.
---@param context engine.Incarnation
---@return boolean? ok, table? err
function M.start(context)
  local pid = ffi.C.getpid()
  me = {
    _id = context.epoch,
    slot = context.slot,
    command = context.command,
    host = host(),
    pid = pid,
    process_start = start_of(pid) or "",
    started_at = value.date(clock.now()),
  }
  return M.renew()
end

--- Epoch of this incarnation.
---@return string
function M.epoch()
  return assert(me, "the engine is not started")._id
end

--- Name of this worker in events.
---@return string
function M.name()
  return me.slot .. ":" .. me._id:sub(1, 8)
end

---@return boolean? ok, table? err
function M.renew()
  me.lease_until = value.date(clock.now() + M.LEASE_SECONDS * 1000)
  local done, err = places.master():replace_one(COLLECTION, { _id = me._id }, me, { upsert = true })
  return done and true or nil, err
end

--- Forget this incarnation: it left nothing behind.
function M.stop()
  places.master():delete_one(COLLECTION, { _id = me._id })
end

--- Leases of rows of other hosts: what each was, and since when (monotonic seconds).
---@type table<string, {lease: number, since: number}>
local seen = {}
local looked

local function observe(rows)
  local now, before = clock.monotonic(), seen
  if looked and now - looked > 2 * M.RENEW_SECONDS then
    before = {} -- we could not look; neither could they renew, perhaps
  end
  looked, seen = now, {}
  for _, row in ipairs(rows) do
    local lease, was = row.lease_until.ms, before[row._id]
    seen[row._id] = was and was.lease == lease and was or { lease = lease, since = now }
  end
end

local function dead(row)
  if row._id == me._id then
    return false
  elseif row.host == me.host then
    return start_of(row.pid) ~= row.process_start
  end
  local was = seen[row._id]
  return was ~= nil and was.lease == row.lease_until.ms and clock.monotonic() - was.since > M.LEASE_SECONDS
end

--- This incarnation's row.
---@return {_id: string, slot: integer, host: string, pid: integer, started_at: userdata}
function M.row()
  return assert(me, "the engine is not started")
end

--- Rows of the incarnations that live, this one among them, by slot and start. `here` says which are
--- processes of this host and data directory.
---@return table[]? rows, table? err
function M.living()
  local rows, err = places.master():find(COLLECTION, {}, { sort = { { "_id", 1 } }, limit = 500 })
  if not rows then
    return nil, err
  end
  local list = {}
  for _, row in ipairs(rows) do
    if not dead(row) and not row.command then
      row.here = row.host == me.host
      list[#list + 1] = row
    end
  end
  table.sort(list, function(a, b)
    if a.slot ~= b.slot then
      return a.slot < b.slot
    end
    return a.started_at.ms < b.started_at.ms
  end)
  return list
end

--- Rows of incarnations that are dead, and how many others live.
---@return table[]? rows, integer|table alive_or_err
function M.dead()
  local rows, err = places.master():find(COLLECTION, {}, { sort = { { "_id", 1 } }, limit = 500 })
  if not rows then
    return nil, err
  end
  observe(rows)
  local list, alive = {}, 0
  for _, row in ipairs(rows) do
    if dead(row) then
      list[#list + 1] = row
    elseif row._id ~= me._id then
      alive = alive + 1
    end
  end
  return list, alive
end

--- A dead incarnation has been dealt with.
---@param epoch string
function M.forget(epoch)
  places.master():delete_one(COLLECTION, { _id = epoch })
end

--- Loop: renew, and have dead incarnations dealt with.
---@param recover fun(rows: table[])
---@param alive fun(n: integer) told how many others live
function M.hold(recover, alive)
  while true do
    local rows, n = M.dead()
    if rows then
      alive(n --[[@as integer]])
      recover(rows)
    else
      log.warn("lease.read_failed", { msg = n.message })
    end
    local slept, stop = task.sleep(M.RENEW_SECONDS)
    if not slept and stop then
      return
    end
    local ok, err = M.renew()
    if not ok then
      log.warn("lease.renew_failed", { msg = err.message })
    end
  end
end

return M
