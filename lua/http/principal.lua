-- Who asks, and what may he do: the one place that decides it.
--
-- In development mode every request over TCP is the implicit admin `dev`; a request over the admin
-- socket is `cli:<user>` (the socket is 0600: only the service's own user opens it). Because an
-- implicit principal could be driven by any web page the user visits, only requests to a loopback
-- name (or one of KONTOR_HOSTS) are served, and an Origin, when sent, must be the Host.

local problem = require "http.problem"

local M = {}

---@class kontor.Principal
---@field id string principal_id, `dev`, `system`, `cli:<user>`
---@field name string
---@field role "viewer"|"operator"|"author"|"admin"
---@field projects string[] ids, or {"*"}
---@field via "dev"|"cli"|"engine"|"key"|"session"
---@field address? string

local rank = {any = 0, viewer = 1, operator = 2, author = 3, admin = 4}
local loopback = {["localhost"] = true, ["127.0.0.1"] = true, ["[::1]"] = true}
local safe = {GET = true, HEAD = true, OPTIONS = true}

---@return kontor.Principal the service itself: migrations, sagas, the engine
function M.system()
  return {id = "system", name = "system", role = "admin", projects = {"*"}, via = "engine"}
end

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

---@param req table kt.http request
---@return kontor.Principal|nil
---@return kontor.Error|nil
function M.of(req)
  if req.via == "unix" then
    local user = user_name(req)
    return {id = "cli:" .. user, name = user, role = "admin", projects = {"*"}, via = "cli"}
  end
  return {id = "dev", name = "dev", role = "admin", projects = {"*"}, via = "dev", address = req.remote}
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
  if not params.project_id and not safe[route.method] and not M.sees(p, "*") and route.role ~= "any" then
    return nil, problem.err("forbidden", 'Master data is changed only by a key for all projects.')
  end
  return true
end

return M
