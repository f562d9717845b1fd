--- URLs with places for arguments: https://host/items/{id}?limit={limit}. Places are in the path and in
--- the query, never in scheme or host, so that no argument says where a request goes.

local M = {}

local NAME = "{([A-Za-z_][A-Za-z0-9_]*)}"

local function split(template)
  local origin, rest = template:match("^(https?://[^/?#{}]+)(.*)$")
  if not origin then
    return nil
  end
  local path, query = rest:match("^([^?]*)%??(.*)$")
  return origin, path, rest:find("?", 1, true) and query or nil
end

--- What is wrong with a template.
---@param template string
---@return string? fault nil when it is good
function M.fault(template)
  local origin, path, query = split(template)
  if not origin then
    return "must begin with http:// or https:// and a host that holds no {name}"
  elseif template:find("[%s%c\128-\255\"<>\\^`|]") then
    return "must hold only characters that a URL has; others are percent-encoded"
  elseif template:find("#", 1, true) then
    return "must not have a fragment"
  elseif origin:find("@", 1, true) then
    return "must not hold a user or password"
  end
  local authority = origin:match("^https?://(.*)$")
  local port = authority:match("^%[[%x:.]+%](.*)$") or authority:match("^[^:]+(.*)$") or "?"
  if port ~= "" and not port:find("^:%d%d?%d?%d?%d?$") then
    return "must name a host, and a port of digits if any"
  elseif path ~= "" and path:sub(1, 1) ~= "/" then
    return "must have a path that begins with /"
  end
  local rest = (path .. "?" .. (query or "")):gsub(NAME, "")
  if rest:find("[{}]") then
    return "has a brace that is not of a {name}"
  end
  for pair in (query or ""):gmatch("[^&]+") do
    if pair:gsub("=.*", ""):find("{", 1, true) then
      return "must name its query parameters itself; a {name} stands for a value"
    end
  end
  return nil
end

--- The names of a template's places.
---@param template string
---@return table<string, boolean>
function M.names(template)
  local names = {}
  for name in template:gmatch(NAME) do
    names[name] = true
  end
  return names
end

local function encode(v)
  local kind = type(v)
  if kind == "number" then
    v = v == math.floor(v) and math.abs(v) < 2 ^ 53 and ("%d"):format(v) or ("%.17g"):format(v)
  elseif kind == "boolean" or kind == "userdata" or kind == "cdata" then
    v = tostring(v)
  elseif kind ~= "string" then
    return nil
  end
  return (v:gsub("[^A-Za-z0-9._~-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function fault(name, code, message)
  return nil, { pointer = "/" .. name, code = code, message = message }
end

--- Fill a template that M.fault has passed. A parameter of the query whose argument is absent is left
--- out; the path wants all of its own.
---@param template string
---@param args table<string, any> absent is nil
---@return string? url, kontor.FieldError? fault
function M.fill(template, args)
  local origin, path, query = split(template)
  local bad, filled = nil, {}
  local function put(name)
    local v = args[name]
    local text = v ~= nil and encode(v) or nil
    if v ~= nil and not text then
      bad = bad or { name, "type", "must be a string, a number or a boolean: it is part of the URL" }
    end
    return text
  end
  path = path:gsub(NAME, function(name)
    filled[#filled + 1] = name
    local text = put(name)
    if args[name] == nil then
      bad = bad or { name, "required", "is required: it is part of the URL's path" }
    elseif text == "" then
      bad = bad or { name, "length", "must not be empty: it is part of the URL's path" }
    end
    return text
  end)
  -- A segment of dots would lead to another path.
  for segment in path:gmatch("[^/]+") do
    if (segment == "." or segment == "..") and filled[1] then
      bad = bad or { filled[1], "pattern", "must not make a segment of dots in the URL's path" }
    end
  end
  local pairs_of = {}
  for pair in (query or ""):gmatch("[^&]+") do
    local whole = true
    pair = pair:gsub(NAME, function(name)
      local text = put(name)
      whole = whole and text ~= nil
      return text
    end)
    if whole then
      pairs_of[#pairs_of + 1] = pair
    end
  end
  if bad then
    return fault(bad[1], bad[2], bad[3])
  end
  return origin .. path .. (#pairs_of > 0 and "?" .. table.concat(pairs_of, "&") or "")
end

return M
