--- The engine: executions of this worker. Routes use `execution`, `follow` and `journal` of it.

local clock = require "kt.clock"
local config = require "kt.config"
local daily = require "engine.daily"
local execution = require "engine.execution"
local follow = require "engine.follow"
local jobs = require "domain.job"
local journal = require "engine.journal"
local lease = require "engine.lease"
local queue = require "engine.queue"
local ready = require "engine.ready"
local recovery = require "engine.recovery"
local runner = require "engine.runner"
local seed = require "scripts.seed"
local tables = require "domain.tables"
local task = require "kt.task"

local M = {
  execution = execution,
  follow = follow,
  journal = journal,
}

---@type table[]
local loops = {}
---@type table?
local watcher

--- Bring the scripts up to the files, then start what runs beside the requests: lease, recovery,
--- queue. After the migrations.
---@param context {slot: integer, epoch: string, home: string}
---@return boolean? ok, table? err
function M.start(context)
  local dev = config.get("KONTOR_DEV")
  local ok, err = seed.run(context.home, dev)
  if ok then
    ok, err = lease.start(context)
  end
  if not ok then
    return nil, err
  end
  jobs.own(context.epoch)
  local dead, others = lease.dead()
  if not dead then
    return nil, others
  end
  queue.set_others(others)
  if others == 0 then
    tables.clear_all() -- nobody reads them any more
  end
  if dev and context.slot == 0 then
    watcher = seed.watch(context.home)
  end
  ready.start()
  queue.draining, runner.releasing, daily.draining = false, false, false
  runner.when_ended(queue.poke)
  loops = {
    task.detach(lease.hold, recovery.run, queue.set_others),
    task.detach(queue.loop),
    task.detach(daily.loop),
  }
  return true
end

--- Take nothing new, let what runs end within `seconds`, give the rest back.
---@param seconds number
function M.drain(seconds)
  queue.draining, daily.draining = true, true
  ready.noted:signal()
  local ends = clock.monotonic() + seconds
  runner.drain(seconds)
  if watcher then
    watcher:close()
    watcher = nil
  end
  for _, loop in ipairs(loops) do
    loop:cancel()
  end
  loops = {}
  while jobs.running() > 0 and clock.monotonic() < ends and task.sleep(0.1) do end
  if runner.total() == 0 and jobs.running() == 0 then
    lease.stop()
  end -- else the next worker finds by this one's row what it left
end

return M
