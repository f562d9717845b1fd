-- Who asks, and what may he do: the one place that decides it.
--
-- A request names itself by an API key. As long as no key is stored, the service is in development
-- mode: every request over TCP is the implicit admin `dev` (where the address is loopback, or
-- KONTOR_DEV=1 says that others are meant too). A request over the admin socket is `cli:<user>` (the
-- socket is 0600: only the service's own user opens it). Because an implicit principal could be driven
-- by any web page that the user visits, its requests must name a loopback host (or one of
-- KONTOR_HOSTS), and an Origin, when sent, must be the Host.

local problem = require "http.problem"

local M = {}

---@class kontor.Principal
---@field id string principal_id, `dev`, `system`, `cli:<user>`
---@field name string
---@field role "viewer"|"operator"|"author"|"admin"
---@field projects string[] ids, or {"*"}
---@field via "dev"|"cli"|"engine"|"key"|"session"
---@field expires_at? userdata date
---@field address? string

local rank = {any = 0, viewer = 1, operator = 2, author = 3, admin = 4}
local loopback = {["localhost"] = true, ["127.0.0.1"] = true, ["[::1]"] = true}
local safe = {GET = true, HEAD = true, OPTIONS = true}

---@return kontor.Principal the service itself: migrations, sagas, the engine
function M.system()
  return {id = "system", name = "system", role = "admin", projects = {"*"}, via = "engine"}
end

-- Who asks what everybody may.
M.nobody = {id = "nobody", name = "nobody", role = "any", projects = {}, via = "key"}

---Host name and port of a Host header.
local function split(host)
  local name, port = host:match("^(%[[%x:.]+%])(.*)$")
  if not name then name, port = host:match("^([^:%[%]]+)(.*)$") end
  if not name then return nil end
  if port ~= "" then
    port = port:match("^:(%d+)$")
    if not port then return nil end
  else port = nil end
  return name:lower(), port
end

---Is this a host that we serve? Refuses DNS rebinding: a page at evil.example whose name resolves to
---127.0.0.1 sends `Host: evil.example`.
---@param host string|nil
---@param names table<string,boolean> further names, as of KONTOR_HOSTS, with or without port
---@return boolean
function M.host_served(host, names)
  local name, port = split(host or "")
  if not name then return false end
  return loopback[name] or names[name] or (port and names[name .. ":" .. port]) or false
end

---May a request with this Origin change anything? Refuses cross-site requests.
---@param origin string|nil
---@param host string
---@return boolean
function M.origin_served(origin, host)
  if not origin then return true end
  local scheme, rest = origin:lower():match("^(https?)://([^/]+)$")
  if not scheme then return false end
  local host_name, host_port = split(host)
  local name, port = split(rest)
  local default = scheme == "https" and "443" or "80"
  return name ~= nil and name == host_name and (port or default) == (host_port or default)
end

---Host and Origin check of a request; over the admin socket there is nothing to check.
---@param req table kt.http request
---@param names table<string,boolean>
---@return true|nil
---@return kontor.Error|nil
function M.guard(req, names)
  if req.via == "unix" then return true end
  local host = req.headers.host
  if not M.host_served(host, names) then
    return nil, problem.err("origin_refused", "This Host is not served; KONTOR_HOSTS lists further names.")
  end
  if (not safe[req.method] or req.headers.upgrade) and not M.origin_served(req.headers.origin, host) then
    return nil, problem.err("origin_refused", "The Origin of the request is not this service.")
  end
  return true
end

local function user_name(req)
  local name = req.headers["x-kontor-user"]
  if name and name:find("^[A-Za-z0-9._-]+$") and #name <= 64 then return name end
  return os.getenv("USER") or "root"
end

-- The key of a request; nil: none. Two that differ, or something else than a key, are a bad one.
local function key_of(req)
  local authorization, given = req.headers.authorization, req.headers["x-api-key"]
  local bearer = authorization and (authorization:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +(%S+)$") or "")
  if bearer and given and bearer ~= given then return "" end
  return bearer or given
end

local function unauthenticated(message)
  return nil, problem.err("unauthenticated", message, {headers = {["WWW-Authenticate"] = 'Bearer realm="kontor"'}})
end

---@class kontor.Access how requests name themselves
---@field open boolean an implicit admin is served while there is no key
---@field find fun(key: string): kontor.Principal|false|nil, kontor.Error|nil
---@field exist fun(): boolean|nil, kontor.Error|nil is any key stored; may ask the store
---@field known fun(): boolean the same as far as it is known: asks nobody

---The implicit admin of development mode.
---@param req table
---@return kontor.Principal
function M.dev(req)
  return {id = "dev", name = "dev", role = "admin", projects = {"*"}, via = req.via == "unix" and "cli" or "dev", address = req.remote}
end

---Who asks. Yields.
---@param req table kt.http request
---@param access kontor.Access
---@return kontor.Principal|nil
---@return kontor.Error|nil unauthenticated
function M.of(req, access)
  if req.via == "unix" then
    local user = user_name(req)
    return {id = "cli:" .. user, name = user, role = "admin", projects = {"*"}, via = "cli"}
  end
  local key = key_of(req)
  if key then
    local who, err = access.find(key)
    if err then return nil, err end
    if not who then return unauthenticated("The key is not valid.") end
    return setmetatable({address = req.remote}, {__index = who})
  end
  local keys, err = access.exist()
  if err then return nil, err end
  if keys or not access.open then return unauthenticated("A key is needed: Authorization: Bearer KEY, or X-API-Key.") end
  return M.dev(req)
end

---Is he still who he was? For answers that last: a revoked or expired key ends them; a store that cannot be
---asked now does not, nobody can revoke a key in it either. Yields.
---@param p kontor.Principal
---@param req table
---@param access kontor.Access
---@return boolean
function M.still(p, req, access)
  local who, err = M.of(req, access)
  if not who then return err.code ~= "unauthenticated" end
  return who.id == p.id and who.role == p.role
end

---The reader of this machine, for routes that say `near`: metrics for a Prometheus beside us. Behind a
---proxy every request comes from this machine, so the Host must be a local name too.
---@param req table
---@param names table<string,boolean> as of guard
---@return kontor.Principal|nil
function M.near(req, names)
  local remote = req.remote or ""
  if not (remote:find("^127%.") or remote == "::1") or not M.guard(req, names) then return nil end
  return {id = "near", name = "near", role = "admin", projects = {"*"}, via = "dev", address = remote}
end

---@param p kontor.Principal
---@param project_id string
---@return boolean
function M.sees(p, project_id)
  for _, id in ipairs(p.projects) do
    if id == "*" or id == project_id then return true end
  end
  return false
end

---May the principal use this route? Of a project outside his scope the answer is the one that a
---project which does not exist gets, so nobody learns which ids exist.
---@param p kontor.Principal
---@param route kontor.Route
---@param params table<string,string>
---@return true|nil
---@return kontor.Error|nil
function M.allowed(p, route, params)
  if params.project_id and not M.sees(p, params.project_id) then return nil, problem.err("not_found") end
  if rank[p.role] < rank[route.role] then
    return nil, problem.err("forbidden", "The role " .. p.role .. " may not do this; it needs " .. route.role .. ".")
  end
  local writes_master = not params.project_id and not safe[route.method] and route.role ~= "any"
  if (route.whole or writes_master) and not M.sees(p, "*") then
    return nil, problem.err("forbidden", "This needs a key for all projects.")
  end
  return true
end

return M
