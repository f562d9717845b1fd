--- The workers of this host as the console sees them. The admin socket belongs to slot 0; what only
--- another worker knows it is asked for over a socket of its own, `<data>/w-<pid>.sock` (0600).

local clock = require "kt.clock"
local config = require "kt.config"
local fetch = require "kt.fetch"
local file = require "kt.file"
local health = require "domain.health"
local json = require "json"
local lease = require "engine.lease"
local log = require "kt.log"
local projects = require "domain.project"
local runner = require "engine.runner"
local sessions = require "console.sessions"
local store = require "kt.store"
local task = require "kt.task"
local vms = require "engine.vms"

local M = {}

--- Seconds that another worker gets to answer.
local PATIENCE = 3
--- Characters of a call's arguments that are shown.
local SHOWN = 120

---@param pid integer
---@return string
function M.socket_path(pid)
  return ("%s/w-%d.sock"):format(config.get("KONTOR_DATA_DIR"), pid)
end

local function lives(pid)
  local handle = io.open("/proc/" .. pid .. "/stat", "r")
  if handle then handle:close() end
  return handle ~= nil
end

--- Remove the sockets of workers that were killed. Yields.
function M.sweep()
  for _, entry in ipairs(file.list(config.get("KONTOR_DATA_DIR")) or {}) do
    local pid = entry.name:match("^w%-(%d+)%.sock$")
    if pid and not lives(pid) then os.remove(M.socket_path(tonumber(pid))) end
  end
end

-- Bytes of this process in memory.
local function resident()
  local handle = io.open("/proc/self/statm", "r")
  if not handle then return nil end
  local pages = handle:read("*l"):match("^%d+ (%d+)")
  handle:close()
  return tonumber(pages) * 4096
end

-- What is asked of one worker, by name: fn(args) -> table.
local asked = {}

function asked.info()
  local row = lease.row()
  return {
    worker = lease.name(), slot = row.slot, pid = row.pid, epoch = row._id, started_at = tostring(row.started_at),
    status = health.state.status, runs = runner.total(), loop_lag_ms = health.loop_lag_ms(),
    rss_bytes = resident() or json.null, host_bytes = math.floor(collectgarbage("count") * 1024),
    vms = json.array(vms.list()), sessions = json.array(sessions.list()), store = store.stats(), tasks = task.counts().tasks,
  }
end

local function call_of(call)
  local text = json.encode(call.decoded) or ""
  return { id = call.id, name = call.name, args = #text > SHOWN and text:sub(1, SHOWN) .. "…" or text }
end

--- Where a run of this worker is.
function asked.stack(args)
  local entry = runner.get(args.execution_id)
  if not entry then return { found = false } end
  local run, calls = entry.run, {}
  for _, call in pairs(run and run.open or {}) do calls[#calls + 1] = call_of(call) end
  table.sort(calls, function(a, b) return a.id < b.id end)
  return {
    found = true, worker = lease.name(), steps = run and run.steps or 0, stopping = run and run.stop and run.stop.status or json.null,
    frames = json.array(run and run.script and run.script:stack() or {}), calls = json.array(calls),
  }
end

function asked.log(args)
  local before = log.level(args.project_id)
  if args.level ~= nil then
    local of, ok, err
    if args.level == "default" then
      of, err = projects.open(args.project_id)
      ok = of
      if of then ok, err = projects.hold_log_level(of.doc, true) end
    else
      ok, err = log.set_level(args.project_id, args.level)
    end
    if not ok then return nil, err end
  end
  return { worker = lease.name(), before = before, level = log.level(args.project_id), general = log.level() }
end

--- A question to this worker.
---@param name string
---@param args table
---@return table? answer, table? err
function M.here(name, args)
  if not asked[name] then return nil, { code = "not_found", message = "a worker is not asked " .. tostring(name) } end
  return asked[name](args)
end

local function ask_there(pid, name, args)
  local reply, err = fetch { method = "POST", unix = M.socket_path(pid), url = "http://localhost/console/worker/" .. name,
    timeout = PATIENCE, headers = { ["Content-Type"] = "application/json" }, body = json.encode(args) }
  if not reply then return nil, err end
  local doc, bad = json.decode(reply.body)
  if not doc or reply.status ~= 200 then return nil, doc or bad end
  return doc
end

---@class console.Told
---@field row {_id: string, slot: integer, pid: integer, here: boolean}
---@field answer table? nil: it did not answer
---@field why string? why not

--- Ask every worker that lives, beside each other. Yields.
---@param name string
---@param args table
---@return console.Told[]? told by slot, table? err
function M.all(name, args)
  local rows, err = lease.living()
  if not rows then return nil, err end
  local told, jobs = {}, {}
  for i, row in ipairs(rows) do
    told[i] = { row = row }
    if row._id == lease.epoch() then
      told[i].answer, err = M.here(name, args)
      told[i].why = err and err.message
    elseif not row.here then
      told[i].why = "runs on another host: ask there"
    else
      jobs[#jobs + 1] = task.spawn(function()
        local answer, failed = ask_there(row.pid, name, args)
        told[i].answer, told[i].why = answer, failed and (failed.message or failed.detail or failed.code)
      end)
    end
  end
  for _, job in ipairs(jobs) do job:join() end
  return told
end

--- Milliseconds that a started_at lies back.
---@param at userdata date
---@return integer
function M.age_ms(at) return clock.now() - at.ms end

return M
