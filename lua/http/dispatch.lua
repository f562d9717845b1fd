-- One request from its first byte to its answer. The order is the contract: host and origin, route,
-- principal and role, the project's rate, what the client accepts and sends, all faults of query and body at once, then
-- existence (the project), then the idempotency key, then the handler.

local clock = require "kt.clock"
local if_match = require "http.if_match"
local idempotency = require "http.idempotency"
local json = require "json"
local log = require "kt.log"
local metrics = require "kt.metrics"
local negotiate = require "http.negotiate"
local principal = require "http.principal"
local problem = require "http.problem"
local rate = require "http.rate"
local router = require "http.router"
local schema = require "http.schema"

local M = {}

local max_body = 1048576
local json_alone = {"application/json"}
local none = {}

---@class kontor.Context
---@field req table kt.http request
---@field route kontor.Route
---@field params table<string,string> decoded path parameters
---@field query table plain query parameters
---@field body table|nil plain body
---@field checked kontor.Checked|nil
---@field principal kontor.Principal
---@field project table|nil the open project (domain/project.lua) of a path with {project_id}
---@field media string media type to answer with
---@field idem table|nil idempotency row in the making
---@field access kontor.Access

local requests = metrics.counter("kontor_http_requests_total", "Requests answered", {"route", "method", "status"})
local refused = metrics.counter("kontor_unauthenticated_total", "Requests without a valid key where one is needed", {"route"})
local seconds = metrics.histogram("kontor_http_seconds", "Time to the answer's end", {"route"})

-- The series of a route's answers, by path; looked up once each.
local series = {}

local function measured(path, method, status, took)
  local of = series[path]
  if not of then
    of = {seconds = seconds:series{route = path}}
    series[path] = of
  end
  local by_status = of[method]
  if not by_status then
    by_status = {}
    of[method] = by_status
  end
  local count = by_status[status]
  if not count then
    count = requests:series{route = path, method = method, status = tostring(status)}
    by_status[status] = count
  end
  count:inc()
  of.seconds:observe(took)
end

local function charset_fault(req)
  return not negotiate.utf8(req.headers["content-type"])
    and problem.err("unsupported_media_type", "The charset of the body must be UTF-8.") or nil
end

local function read_body(ctx)
  local req = ctx.req
  local text, err = req:body(max_body)
  if not text then return nil, err end
  if text == "" then return {} end
  if negotiate.media(req.headers["content-type"]) ~= "application/json" then
    return nil, problem.err("unsupported_media_type", "The body must be application/json.")
  end
  if charset_fault(req) then return nil, charset_fault(req) end
  local encoding = req.headers["content-encoding"]
  if encoding and encoding:lower() ~= "identity" then
    return nil, problem.err("unsupported_media_type", "The body must not have a Content-Encoding.")
  end
  local doc, fault = json.decode(text)
  if doc == nil then
    -- The fault quotes what stands at its place.
    return nil, problem.err("invalid_json", not ctx.route.secret_body and (type(fault) == "table" and fault.message or fault) or nil)
  end
  return doc, nil, text
end

---Count the request against the rate of its project. For routes that name it in another way than by
---{project_id}; the others are counted here.
---@param ctx kontor.Context
---@param project kontor.Project
---@return true|nil
---@return kontor.Error|nil rate_limited
function M.limit(ctx, project)
  if ctx.req.via == "unix" then return true end
  return rate.take(project)
end

---For answers that last: is the principal still who he was?
---@param ctx kontor.Context
---@return fun(): boolean
function M.still(ctx)
  return function() return principal.still(ctx.principal, ctx.req, ctx.access) end
end

-- Everything before the handler. Returns the context ready for it, or nil and the error.
local function prepare(ctx, app)
  local req = ctx.req
  local route, params = app.router:match(req.method, req.path)
  local who, unknown, ok, err
  -- What everybody may asks nothing: /health answers also when the store does not.
  if route and route.role == "any" then who = app.access.known() and principal.nobody or principal.dev(req)
  else who, unknown = principal.of(req, app.access) end
  if who and who.via == "dev" then
    -- Nobody named himself: it may be a page that drives a browser of this machine.
    ok, err = principal.guard(req, app.hosts)
    if not ok then return nil, err end
  end
  if not route then return nil, params end
  ctx.route, ctx.params = route, params
  if not who and route.near then who = principal.near(req, app.hosts) end
  if not who then
    if unknown.code == "unauthenticated" then refused:inc{route = route.path} end
    return nil, unknown
  end
  ctx.principal = who
  ctx.access = app.access
  ok, err = principal.allowed(who, route, params)
  local foreign = not ok and err.code == "not_found"
  if not ok then app.denied(ctx.principal, route, foreign and "not_found" or err.code) end
  if not ok and not foreign then return nil, err end
  local found, missing
  if params.project_id and not route.master and not foreign then
    -- Opened here for its limit; whether it is there is said only after the request's own faults.
    found, missing = app.open_project(params.project_id)
    if found then
      ok, err = M.limit(ctx, found)
      if not ok then return nil, err end
    end
  end
  local offered = route.produces or json_alone
  ctx.media = negotiate.best(req.headers.accept, offered)
  if not ctx.media then
    return nil, problem.err("not_acceptable", "Offered: " .. table.concat(offered, ", "))
  end
  local given, errors
  given, err = router.parse_query(req.query)
  if not given then return nil, err end
  ctx.query, errors = schema.check_query(route.query or none, given)
  if_match.check_header(ctx, errors)
  idempotency.check_header(ctx, errors)
  if route.body then
    local doc, fault, text = read_body(ctx)
    if fault then return nil, fault end
    ctx.body_text = text or "{}"
    ctx.body, ctx.checked = schema.check(route.body, doc, route.mode or "create", {principal = ctx.principal})
    for _, e in ipairs(ctx.checked.errors) do errors[#errors + 1] = e end
  elseif route.upload then
    local media = negotiate.media(req.headers["content-type"])
    ok = false
    for _, m in ipairs(route.upload) do ok = ok or m == media end
    if not ok then
      return nil, problem.err("unsupported_media_type", "The body must be one of: " .. table.concat(route.upload, ", "))
    end
    if charset_fault(req) then return nil, charset_fault(req) end
    ctx.upload_media = media
    -- For the idempotency key: a streamed body is told from another one by what is said about it.
    local headers = req.headers
    ctx.body_text = table.concat({req.query or "", headers["content-length"] or "", headers["content-digest"] or ""}, "\n")
  end
  if #errors > 0 then return nil, problem.err("validation_failed", nil, {errors = errors}) end
  if foreign then return nil, problem.err("not_found") end
  if missing then return nil, missing end
  ctx.project = found
  return ctx
end

local function handle(ctx, app)
  local ok, err = prepare(ctx, app)
  if not ok then return nil, err end
  return idempotency.around(ctx, app, ctx.route.handler)
end

local function traceback(e)
  if type(e) == "table" then return e end
  return {code = "internal", message = debug.traceback(tostring(e), 2)}
end

local function send(ctx, result, err)
  local req = ctx.req
  if result and result.streamed then return result.status or 200 end
  local status, headers, body
  if result then
    status, headers, body = result.status, result.headers or {}, result.body
  else
    local ours
    status, headers, body, ours = problem.answer(err, req.id)
    if ours then
      log.error("http.fault", {request_id = req.id, project_id = ctx.params and ctx.params.project_id,
        msg = type(err) == "table" and (tostring(err.code) .. ": " .. tostring(err.message)) or tostring(err)})
    end
  end
  headers["Cache-Control"] = headers["Cache-Control"] or "no-store"
  headers["X-Content-Type-Options"] = "nosniff"
  req:respond(status, headers, body or "")
  return status
end

---The handler for http.serve.
---@param app table {router, hosts: table<string,boolean>, access: kontor.Access, open_project: fun(id): table|nil, err,
--- denied: fun(principal, route, code) notes a refusal}
---@return fun(req: table)
function M.handler(app)
  return function(req)
    local ctx = {req = req}
    local started = clock.monotonic()
    local done, result, err = xpcall(handle, traceback, ctx, app)
    if not done then result, err = nil, result end
    -- The client has gone: nobody reads an answer.
    if not result and type(err) == "table" and err.code == "cancelled" then return end
    local status = send(ctx, result, err)
    local took = clock.monotonic() - started
    measured(ctx.route and ctx.route.path or "none", req.method, status, took)
    -- Reads that went well are many and say little.
    local level = (status >= 400 or (req.method ~= "GET" and req.method ~= "HEAD")) and "info" or "debug"
    if log.wants(level) then
      log[level]("http.request", {request_id = req.id, project_id = ctx.params and ctx.params.project_id,
        msg = ("%s %s %d %.1f ms"):format(req.method, req.path:sub(1, 200), status, took * 1e3)})
    end
  end
end

return M
