-- The route table: which route a path is. Segments are percent-decoded one by one, so an encoded
-- slash stays inside its segment; a parameter whose text does not fit its type is no match, which is
-- the same 404 as a thing that is not there.

local problem = require "http.problem"

local M = {}
M.__index = M

---@class kontor.Route
---@field method string
---@field path string with {name} for parameters
---@field operation_id string
---@field summary string
---@field role "any"|"viewer"|"operator"|"author"|"admin" the least one; any: also without a key
---@field whole? boolean only for a principal of all projects
---@field master? boolean its project is a document of the master database: the project's is not opened
---@field near? boolean answers also without a key, to this machine
---@field params? table<string, kontor.Type>
---@field query? table[] fields
---@field body? kontor.Type
---@field mode? "create"|"replace" how the body is checked
---@field example? table an example body, sent by the tests as it stands
---@field upload? string[] media types of a streamed body
---@field produces? string[] media types of the answer, application/json when absent
---@field if_match? boolean
---@field secret_body? boolean no error quotes from the body
---@field answers table<integer, table> status to {type = kontor.Type|nil, list = kontor.Type|nil, doc = string}
---@field handler fun(ctx: kontor.Context): table|nil, kontor.Error|nil

-- Lead byte class, least and greatest second byte, further bytes (Unicode's table 3-7: no overlong
-- forms, no surrogates, nothing above U+10FFFF).
local function utf8_valid(s)
  local i, n = 1, #s
  while i <= n do
    local c = s:byte(i)
    if c < 0x80 then i = i + 1
    else
      local more
      local low, high = 0x80, 0xbf
      if c >= 0xc2 and c <= 0xdf then more = 1
      elseif c >= 0xe0 and c <= 0xef then
        more = 2
        if c == 0xe0 then low = 0xa0 elseif c == 0xed then high = 0x9f end
      elseif c >= 0xf0 and c <= 0xf4 then
        more = 3
        if c == 0xf0 then low = 0x90 elseif c == 0xf4 then high = 0x8f end
      else return false end
      for k = 1, more do
        local b = s:byte(i + k)
        if not b or b < low or b > high then return false end
        low, high = 0x80, 0xbf
      end
      i = i + more + 1
    end
  end
  return true
end

---Decode %XX; nil when an escape is broken or the bytes are not UTF-8.
---@param s string
---@return string|nil
function M.decode(s)
  if s:find("%", 1, true) then
    if s:gsub("%%%x%x", ""):find("%", 1, true) then return nil end
    s = s:gsub("%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end)
  end
  if s:find("[\128-\255]") and not utf8_valid(s) then return nil end
  return s
end

---@param routes kontor.Route[]
---@return table router
function M.new(routes)
  local self = setmetatable({root = {static = {}}, exact = {}, routes = {}}, M)
  local ids = {}
  for _, r in ipairs(routes) do
    assert(r.operation_id and not ids[r.operation_id], "operation id is missing or there twice: " .. r.path)
    ids[r.operation_id] = true
    self:add(r)
  end
  return self
end

function M:add(route)
  local node = self.root
  for segment in route.path:sub(2):gmatch("[^/]+") do
    local name = segment:match("^{(.*)}$")
    if name then
      assert(route.params and route.params[name], route.path .. ": no type for " .. name)
      if not node.param then node.param = {static = {}, name = name, type = route.params[name]} end
      assert(node.param.name == name and node.param.type == route.params[name],
        route.path .. ": the parameter of a place has one name and type")
      node = node.param
    else
      node.static[segment] = node.static[segment] or {static = {}}
      node = node.static[segment]
    end
  end
  node.methods = node.methods or {}
  assert(not node.methods[route.method], "there twice: " .. route.method .. " " .. route.path)
  node.methods[route.method] = route
  -- A path of constant segments is found as it stands.
  if not route.path:find("{", 1, true) then self.exact[route.path] = node end
  self.routes[#self.routes + 1] = route
end

local function allow(methods)
  local list = {}
  for m in pairs(methods) do list[#list + 1] = m end
  if methods.GET and not methods.HEAD then list[#list + 1] = "HEAD" end
  table.sort(list)
  return table.concat(list, ", ")
end

---@param method string
---@param path string raw path of the target
---@return kontor.Route|nil
---@return table|kontor.Error params, or the error
function M:match(method, path)
  local node, params = self.exact[path], {}
  if not node then
    node = self.root
    if path:byte(1) ~= 47 then return nil, problem.err("not_found") end
    local plain = not path:find("[%%\128-\255]") -- nothing to decode
    local at, last = 2, #path
    while at <= last + 1 and last > 1 do
      local slash = path:find("/", at, true) or last + 1
      local segment = path:sub(at, slash - 1)
      at = slash + 1
      if not plain then
        segment = M.decode(segment)
        if not segment then return nil, problem.err("not_found") end
      end
      local static = node.static[segment]
      if static then node = static
      else
        local p = node.param
        if not p or #segment > p.type.max or not p.type.match(segment) then
          return nil, problem.err("not_found")
        end
        params[p.name] = segment
        node = p
      end
    end
  end
  if not node.methods then return nil, problem.err("not_found") end
  local route = node.methods[method] or (method == "HEAD" and node.methods.GET)
  if not route then
    return nil, problem.err("method_not_allowed", nil, {headers = {Allow = allow(node.methods)}})
  end
  return route, params
end

---Query string to name -> list of values.
---@param query string|nil
---@return table<string,string[]>|nil
---@return kontor.Error|nil
function M.parse_query(query)
  local out = {}
  if not query then return out end
  for pair in query:gmatch("[^&]+") do
    local name, v = pair:match("^([^=]*)=?(.*)$")
    name, v = M.decode((name:gsub("+", " "))), M.decode((v:gsub("+", " ")))
    if not name or not v then
      return nil, problem.err("malformed_request", "The query is not percent-encoded UTF-8.")
    end
    out[name] = out[name] or {}
    table.insert(out[name], v)
  end
  return out
end

return M
