-- Is the service well? /health touches nothing, /ready asks what a request needs, master/health
-- shows the whole.

local answer = require "http.answer"
local clock = require "kt.clock"
local config = require "kt.config"
local json = require "json"
local metrics = require "kt.metrics"
local project = require "domain.project"
local store = require "kt.store"
local T = require "http.types"

local M = {}

local count_max = 100000

local connections = metrics.gauge("kontor_store_connections", "Connections to the store of this worker.", {})
local open_projects = metrics.gauge("kontor_store_open_projects", "Databases of projects that are open in this worker.", {})

-- Set by app.lua: version, state ("starting", "ready", "draining"), worker, runs (how many now), access
-- ("open" or "keys").
M.state = {version = "0", status = "starting", worker = "0", runs = function() return 0 end,
  access = function() return "open" end}

local ok_check = T.object(nil, {{"ok", T.bool}})

M.types = {
  health = T.object("Health", {{"status", T.enum{"ok"}}, {"version", T.str()},
    {"access", T.enum{"open", "keys"}, doc = "open: there is no key, everybody is served as admin"}}),
  ready = T.object("Ready", {
    {"status", T.enum{"ready", "starting", "draining", "failing"}},
    {"checks", T.object("ReadyChecks", {
      {"store", T.object(nil, {{"ok", T.bool}, {"ms", T.num(0)}, {"error", T.str(), nullable = true}})},
      {"migrations", ok_check},
      {"workers", T.object(nil, {{"ok", T.bool}, {"n", T.int(0)}})},
    })},
  }),
  master = T.object("MasterHealth", {
    {"status", T.enum{"ok", "degraded", "down"}}, {"version", T.str()},
    {"store", T.object(nil, {
      {"engine", T.enum{"sqlite", "mongodb"}}, {"ok", T.bool}, {"ms", T.num(0)}, {"connections", T.int(0), nullable = true},
      {"connections_max", T.int(0), nullable = true}, {"open_projects", T.int(0), nullable = true},
      {"queue", T.int(0), nullable = true},
    })},
    {"counts", T.object(nil, {
      {"projects", T.int(0)}, {"agents", T.int(0)}, {"system_prompts", T.int(0)}, {"model_configs", T.int(0)},
      {"tools", T.int(0)}, {"mcp_servers", T.int(0)},
    })},
    {"workers", T.list(T.object(nil, {{"worker", T.str()}, {"runs", T.int(0)}, {"loop_lag_ms", T.num(0)}}))},
    {"providers", T.map()},
    {"mcp", T.object(nil, {{"sessions", T.int(0)}})},
  }),
}

local collections = {projects = "kt_m_projects", agents = "kt_m_agents", system_prompts = "kt_m_system_prompts",
  model_configs = "kt_m_model_configs", tools = "kt_m_tools", mcp_servers = "kt_m_mcps"}

-- One read of the master database.
local function ask_store()
  local started = clock.monotonic()
  local _, err = project.master():find_one("kt_m_secrets", {_id = "system/cursor"}, {projection = {"_id"}})
  return {ok = err == nil, ms = math.floor((clock.monotonic() - started) * 1e4) / 10, error = err and err.code or json.null}
end

-- Milliseconds that the loop was late, as the worker last measured it.
---@return number
function M.loop_lag_ms()
  local seconds = metrics.render():match("\nkontor_loop_lag_seconds%S* (%S+)")
  return math.floor((tonumber(seconds) or 0) * 1e4) / 10
end

---GET /health.
function M.health()
  return answer.doc(200, json.ordered({status = "ok", version = M.state.version, access = M.state.access()},
    {"status", "version", "access"}))
end

-- Databases of projects that are open: all but the master's.
local function projects_open(stats) return math.max(0, stats.open_databases - 1) end

---GET /metrics: what is counted, and how the store stands now.
function M.metrics()
  local stats = store.stats()
  connections:set({}, stats.connections)
  open_projects:set({}, projects_open(stats))
  return answer.text(200, metrics.render(), {["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"})
end

---GET /ready.
function M.ready()
  local checked = ask_store()
  local status = M.state.status
  if status == "ready" and not checked.ok then status = "failing" end
  return answer.doc(status == "ready" and 200 or 503, json.ordered({status = status, checks = json.ordered({
    store = checked, migrations = {ok = M.state.status ~= "starting"},
    workers = {ok = true, n = config.get("KONTOR_WORKERS")},
  }, {"store", "migrations", "workers"})}, {"status", "checks"}))
end

---GET /master/health.
function M.master()
  local checked, counts = ask_store(), {}
  local stats = store.stats()
  for name, coll in pairs(collections) do
    local n = checked.ok and project.master():count(coll, {}, count_max) or 0
    counts[name] = n or 0
  end
  local status = not checked.ok and "down" or "ok"
  return answer.doc(status == "down" and 503 or 200, json.ordered({
    status = status, version = M.state.version,
    store = {engine = stats.engine, ok = checked.ok, ms = checked.ms, connections = stats.connections,
      connections_max = stats.connections_max > 0 and stats.connections_max or json.null, open_projects = projects_open(stats),
      queue = stats.queue},
    counts = counts,
    workers = json.array{{worker = M.state.worker, runs = M.state.runs(), loop_lag_ms = M.loop_lag_ms()}},
    providers = {}, mcp = {sessions = 0},
  }, {"status", "version", "store", "counts", "workers", "providers", "mcp"}))
end

return M
