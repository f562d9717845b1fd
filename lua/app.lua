-- A worker's start: store, migrations, the default project, the engine, then the sockets. And its
-- drain. Runs as a task in the host VM.

local api_key = require "domain.api_key"
local audit = require "domain.audit"
local clock = require "kt.clock"
local config = require "kt.config"
local console = require "console"
local cursor = require "http.cursor"
local dispatch = require "http.dispatch"
local engine = require "engine"
local health = require "domain.health"
local http = require "kt.http"
local log = require "kt.log"
local migrations = require "domain.migrations"
local project = require "domain.project"
local router = require "http.router"
local routes = require "routes"
local runner = require "engine.runner"
local secret_key = require "domain.secret_key"
local setup = require "domain.setup"
local store = require "kt.store"
local streams = require "http.streams"
local task = require "kt.task"
local unit_tar = require "domain.unit_tar"
local upload = require "domain.upload"

local M = {}

local poll_seconds = 0.02
local tend_seconds = 5
local servers = {}
local tending, resuming, sweeping

-- KONTOR_HOSTS as a set, in lower case.
local function host_names()
  local set = {}
  for name in config.get("KONTOR_HOSTS"):gmatch("[^,%s]+") do set[name:lower()] = true end
  return set
end

local function open_master()
  local name = config.get("MASTER_DATABASE_NAME")
  local ok, err = store.create(name)
  if not ok and err.code ~= "already_exists" then return nil, err end
  return store.database(name)
end

local function open_store(home)
  local ok, err = store.open{dir = config.get("KONTOR_DATA_DIR")}
  if not ok then return nil, err end
  ok, err = migrations.load(home)
  if not ok then return nil, err end
  local master
  master, err = open_master()
  if not master then return nil, err end
  ok, err = migrations.run("master", master)
  if not ok then return nil, err end
  local secret
  secret, err = master:find_one("kt_m_secrets", {_id = "system/cursor"})
  if not secret then return nil, err or {code = "store_corrupt", message = "kt_m_secrets has no system/cursor"} end
  cursor.set_key(secret.data)
  ok, err = secret_key.check()
  if not ok then return nil, err end
  return master
end

local function open_projects()
  local ok, err = project.finish_pending()
  if not ok then return nil, err end
  return project.ensure_default()
end

-- How requests name themselves, and whether that may be served at this address.
---@param slot integer the first one's worker says it in the log, once for the service
---@return kontor.Access|nil
---@return kontor.Error|nil
local function access_of(slot)
  local keys, err = api_key.exist()
  if keys == nil then return nil, err end
  local address, dev = config.get("KONTOR_LISTEN"), config.get("KONTOR_DEV")
  local near = config.loopback(address)
  if keys and dev then
    return nil, {code = "invalid_state", message = "KONTOR_DEV: 1 serves everybody as admin, and there are keys: "
      .. "start without it, or revoke them (kontor key list)"}
  elseif not near and not keys and not dev then
    return nil, {code = "invalid_state", message = "KONTOR_LISTEN: \"" .. address .. "\" is not a loopback address, and there "
      .. "is no key: make one (kontor key create), or serve everybody as admin (KONTOR_DEV=1)"}
  end
  if not keys and slot == 0 then
    log.warn("access.open", {msg = "there is no key: every request to " .. address .. " is served as admin"})
  end
  health.state.access = function() return api_key.known() and "keys" or "open" end
  return {open = near or dev, find = api_key.find, exist = api_key.exist, known = api_key.known}
end

-- What is done beside the requests as long as the worker lives.
local function tend(master)
  while task.sleep(tend_seconds) do
    audit.flush_denied(master)
    console.tend()
    api_key.exist() -- for those who do not ask: a first key may have been made by another worker
  end
end

local function serve(ctx, app)
  local handler = dispatch.handler(app)
  local server, err = http.serve{fd = ctx.listen_fd, via = "tcp", handler = handler}
  if not server then return nil, err end
  servers[1] = server
  if ctx.admin_fd then
    server, err = http.serve{fd = ctx.admin_fd, via = "unix", handler = console.handler(handler)}
    if not server then return nil, err end
    servers[2] = server
  end
  server, err = console.listen()
  if server then servers[#servers + 1] = server
  else log.warn("console.unasked", {msg = "the console cannot ask this worker: " .. tostring(err.message)}) end
  return true
end

-- Nothing new is accepted from the first moment on. What has been accepted is answered while the
-- engine still takes runs; then the engine ends, and with it what followers wait for.
local function drain(seconds)
  local ends = clock.monotonic() + seconds
  local function left() return math.max(0, ends - clock.monotonic()) end
  health.state.status = "draining"
  log.info("worker.drain", {msg = ("%g s"):format(seconds)})
  local closing = {}
  for i, server in ipairs(servers) do closing[i] = task.spawn(function() return server:drain(seconds) end) end
  while http.active() > 0 and left() > seconds / 2 do task.sleep(poll_seconds) end
  upload.stop()
  engine.drain(left())
  streams.drain()
  for _, t in ipairs(closing) do t:join() end
  for _, t in pairs{tending, resuming, sweeping} do
    t:cancel()
    t:join()
  end
  unit_tar.drain(math.max(1, left()))
  console.close()
  audit.flush_denied(project.master())
  store.close()
end

---@class kontor.WorkerContext
---@field listen_fd integer
---@field admin_fd? integer
---@field slot integer
---@field epoch string this incarnation
---@field home string folder of lua/, agents/, migrations/
---@field drain fun(fn: fun(seconds: number)) registers what runs when the worker is to end

local function start(ctx)
  health.state.worker = ("%d:%s"):format(ctx.slot, ctx.epoch)
  health.state.runs = runner.total
  health.state.version = config.version()
  setup.home = ctx.home
  local master, err = open_store(ctx.home)
  if not master then return nil, err end
  local access
  access, err = access_of(ctx.slot)
  if not access then return nil, err end
  local ok
  ok, err = open_projects()
  if not ok then return nil, err end
  ctx.drain(drain)
  ok, err = engine.start(ctx)
  if not ok then return nil, err end
  tending = task.detach(tend, master)
  local app = {router = router.new(routes.all()), hosts = host_names(), access = access, denied = audit.denied,
    open_project = project.open, master = master}
  ok, err = serve(ctx, app)
  if not ok then return nil, err end
  upload.start()
  sweeping = task.detach(unit_tar.sweep)
  if ctx.slot == 0 then resuming = task.detach(secret_key.resume) end
  health.state.status = "ready"
  return true
end

---@param ctx kontor.WorkerContext
---@return true|nil ready
---@return kontor.Error|nil
function M.start(ctx)
  local ok, err = start(ctx)
  if not ok then store.close() end
  return ok, err
end

return M
