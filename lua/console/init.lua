--- The console's side in a worker: `POST /console/<command>` with a JSON object, answered by one. Only
--- over the admin socket, which none but the service's own user opens; over TCP there is no such path.
--- `kontor console` (lua/cli/console.lua) is the other side.

local audit = require "domain.audit"
local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local door = require "door"
local given = require "lib.given"
local health = require "domain.health"
local http = require "kt.http"
local json = require "json"
local lease = require "engine.lease"
local log = require "kt.log"
local places = require "lib.places"
local principal = require "http.principal"
local problem = require "http.problem"
local projects = require "domain.project"
local runs = require "console.runs"
local sessions = require "console.sessions"
local texts = require "lib.text"
local workers = require "console.workers"

local M = {}

local BODY_BYTES = 1024 * 1024
--- Characters of an evaluated text that its audit entry holds; its sha256 tells the rest.
local NOTED = 200
local LEVELS = { debug = true, info = true, warn = true, error = true, default = true }

local function fault(code, message) return nil, { code = code, message = message } end

local function project_of(args)
  local id = given(args.project)
  if type(id) ~= "string" or not id:find("^[a-z0-9-]+$") then return fault("validation_failed", "which project? :use PROJECT") end
  local project, err = projects.open(id)
  if not project then
    return nil, err.code == "not_found" and { code = "not_found", message = "there is no project " .. id } or err
  end
  return project
end

local function project_ids()
  local list, err = places.master():find("kt_m_projects", { status = "active" },
    { sort = { { "_id", 1 } }, limit = 500, projection = { "_id" } })
  if not list then return nil, err end
  local ids = {}
  for _, doc in ipairs(list) do
    if projects.exists_here(doc._id) then ids[#ids + 1] = doc._id end
  end
  return ids
end

-- Commands: fn(args, ctx) -> answer | nil, err. ctx: {principal, req}.
local commands = {}

function commands.hello()
  local ids, err = project_ids()
  if not ids then return nil, err end
  return { version = health.state.version, worker = lease.name(), projects = json.array(ids), project = config.get("DEFAULT_PROJECT_ID") }
end

local function chosen_of(project, args)
  local chosen, err = sessions.choose(project, given(args.agent))
  if not chosen then return nil, err end
  local files = 0
  for _ in pairs(chosen.bundle.files) do files = files + 1 end
  return { project = project.id, agent = chosen.agent and chosen.agent._id or json.null, bundle = chosen.bundle.sha256,
    agent_version = chosen.agent and chosen.agent.version or json.null, files = files, agents = json.array(chosen.agents) }
end

function commands.use(args)
  local project, err = project_of(args)
  if not project then return nil, err end
  return chosen_of(project, args)
end

-- What can be completed of a project: ids, names of the door.
function commands.words(args)
  local project, err = project_of(args)
  if not project then return nil, err end
  local ids
  ids, err = runs.ids(project)
  if not ids then return nil, err end
  local names = { "template.render", "time.now", "time.format", "time.parse", "random", "uuid", "parallel", "print", "require", "json" }
  for name in pairs(door.services) do
    if name ~= "template.load" and name ~= "template.rendered" then names[#names + 1] = name end
  end
  local known, failed = project_ids()
  if not known then return nil, failed end
  local agents
  agents, err = sessions.agents_of(project)
  if not agents then return nil, err end
  return { executions = json.array(ids), names = json.array(names), projects = json.array(known), agents = json.array(agents) }
end

local function note(ctx, project, action, changes)
  return project.db:commit { audit.entry(ctx.principal, action, "console", project.id, changes, ctx.req) }
end

function commands.eval(args, ctx)
  local id, text = args.session, args.text
  if type(id) ~= "string" or not id:find("^%x+$") or #id ~= 32 then return fault("validation_failed", "session: 32 hexadecimal digits") end
  if type(text) ~= "string" then return fault("validation_failed", "text: what to evaluate") end
  local project, err = project_of(args)
  if not project then return nil, err end
  local session, news = sessions.open(id, project, given(args.agent))
  if not session then return nil, news end
  local noted
  noted, err = note(ctx, project, "console.eval", { { pointer = "/text", from = json.null, to = texts.cut(text, NOTED) },
    { pointer = "/sha256", from = json.null, to = crypto.sha256(text) } })
  if not noted then return nil, err end
  local started = clock.monotonic()
  local result
  result, err = sessions.evaluate(session, text)
  if not result then return nil, err end
  result.ms, result.news = math.floor((clock.monotonic() - started) * 1e3), news
  return result
end

function commands.reset(args)
  sessions.close(tostring(args.session))
  return {}
end

-- Commands about a project's executions.
for _, name in ipairs { "list", "events", "journal", "stack" } do
  commands[name == "list" and "executions" or name] = function(args)
    local project, err = project_of(args)
    if not project then return nil, err end
    return runs[name](project, args)
  end
end

function commands.workers()
  local told, err = workers.all("info", {})
  if not told then return nil, err end
  local rows = {}
  for i, one in ipairs(told) do
    rows[i] = { slot = one.row.slot, pid = one.row.pid, epoch = one.row._id, age_ms = workers.age_ms(one.row.started_at),
      info = one.answer or json.null, why = one.why or json.null }
  end
  return { rows = json.array(rows), asked = lease.name() }
end

function commands.log(args, ctx)
  local project, err = project_of(args)
  if not project then return nil, err end
  local level = given(args.level)
  if level ~= nil and not LEVELS[level] then return fault("validation_failed", "'" .. tostring(level) .. "' is no level: debug, info, warn, error, default") end
  if level then
    local noted
    noted, err = note(ctx, project, "console.log_level", { { pointer = "/log_level", from = log.level(project.id), to = level } })
    if not noted then return nil, err end
  end
  local told
  told, err = workers.all("log", { project_id = project.id, level = level })
  if not told then return nil, err end
  local rows = {}
  for i, one in ipairs(told) do
    rows[i] = { slot = one.row.slot, pid = one.row.pid, level = one.answer and one.answer.level or json.null,
      general = one.answer and one.answer.general or json.null, why = one.why or json.null }
  end
  return { rows = json.array(rows), project = project.id }
end

-- The request's object.
local function read(req)
  local text, err = req:body(BODY_BYTES)
  if not text then return nil, err end
  if text == "" then return {} end
  local doc, bad = json.decode(text)
  if type(doc) ~= "table" then return nil, problem.err("invalid_json", type(bad) == "table" and bad.message or "an object is expected") end
  return doc
end

local function traceback(e)
  return type(e) == "table" and e or { code = "internal", message = debug.traceback(tostring(e), 2) }
end

-- Errors are named, not dressed up as problems: the console shows code and message.
local function serve(req, find)
  local command = find(req.path)
  local done, result, err = xpcall(function()
    if not command then return fault("not_found", "the console has no command " .. req.path) end
    if req.method ~= "POST" then return fault("method_not_allowed", "POST only") end
    local args, bad = read(req)
    if not args then return nil, bad end
    return command(args, { principal = principal.of(req), req = req })
  end, traceback)
  if not done then result, err = nil, result end
  if not result and err.code == "cancelled" then return end -- the client has gone
  if not result and (not done or err.code == "internal") then
    log.error("console.fault", { request_id = req.id, msg = tostring(err.code) .. ": " .. tostring(err.message) })
  end
  local body = result or { code = err.code, message = err.message or err.detail or err.code }
  req:respond(result and 200 or 400, { ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store" }, json.encode(body))
end

--- The handler of the admin socket: the console's requests, all others go to `api`.
---@param api fun(req: table)
---@return fun(req: table)
function M.handler(api)
  local function find(path) return commands[path:match("^/console/([a-z]+)$")] end
  return function(req)
    if req.path:sub(1, 9) == "/console/" then return serve(req, find) end
    return api(req)
  end
end

--- Open this worker's own socket, where the console's worker asks it. Yields.
---@return table? server of kt.http, table? err
function M.listen()
  workers.sweep()
  local path = workers.socket_path(lease.row().pid)
  local fd, err = http.listen("unix:" .. path)
  if not fd then return nil, err end
  local function find(target)
    local name = target:match("^/console/worker/([a-z]+)$")
    return name and function(args) return workers.here(name, args) end
  end
  return http.serve { fd = fd, via = "unix", handler = function(req) return serve(req, find) end }
end

--- What is done now and then.
function M.tend() sessions.tend() end

--- The worker ends: no session is left, nor its socket.
function M.close()
  sessions.close()
  os.remove(workers.socket_path(lease.row().pid))
end

return M
