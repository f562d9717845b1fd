-- Tools (kt_m_tools): what an agent may call by tool.call, and how it is done (door/tool.lua).

local json = require "json"
local json_schema = require "lib.json_schema"
local secret = require "domain.secret"
local T = require "http.types"
local url_template = require "lib.url_template"
local versions = require "domain.versions"

local M = {}

---A header's value that is read from the service's environment when it is sent. Only these: a tool
---must not carry any other secret of the service to where its author wants it.
M.env_pattern = "^env:(KONTOR_TOOL_[A-Z0-9_]+)$"

---A header's value that is a secret, of the project in which the tool is called or else of the whole.
M.secret_pattern = "^secret:(.*)$"

-- Set by the door or by libcurl: they frame the request, or say who it is.
local reserved = {}
for name in ("accept-encoding connection content-length expect host http2-settings idempotency-key keep-alive "
  .. "proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade"):gmatch("%S+") do
  reserved[name] = true
end

-- Headers that carry a secret: only by reference, since whoever reads master data sees the document.
local carries_secret = {authorization = true, cookie = true, ["x-api-key"] = true, ["api-key"] = true, ["x-auth-token"] = true}

-- Methods whose arguments go into the URL alone.
M.bodiless = {GET = true, HEAD = true, DELETE = true}

local text = T.str{min = 1, max = 4000}

M.types = {
  tool = versions.type("Tool", {
    {"tool_id", T.tool_id, required = true, immutable = true, doc = "The name that a model calls it by"},
    {"name", T.str{min = 1}, required = true},
    {"description", text, required = true, doc = "What a model is told that it does"},
    {"kind", T.enum{"mcp", "script", "http"}, required = true},
    {"mcp", T.object("McpTool", {{"server_id", T.slug, required = true}, {"tool_name", T.str{min = 1}, required = true}}),
      nullable = true},
    {"script", T.script_path, nullable = true, doc = "Path of a script that declares a tool"},
    {"http", T.object("HttpTool", {
      {"method", T.enum{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, required = true},
      {"url", T.str{min = 1, max = 2000}, required = true, doc = "{name} in path and query stands for an argument"},
      {"headers", T.map(), default = {}, doc = "Texts; secret:NAME is the value of a secret, env:KONTOR_TOOL_NAME "
        .. "that of a variable of the service's environment"},
    }), nullable = true},
    {"purpose", T.str{max = 64}, nullable = true},
    {"input_schema", T.json_schema, nullable = true},
    {"output_schema", T.json_schema, nullable = true},
    {"writes", T.bool, default = false, doc = "It changes something"},
    {"idempotent", T.bool, default = false, doc = "Doing it twice is doing it once"},
    {"parallel", T.bool, default = false, doc = "A model's calls of it may be made side by side"},
    {"enabled", T.bool, default = true},
    {"timeout_seconds", T.num(0.1, 3600), default = 60},
    {"max_result_bytes", T.int(1, 32768), default = 32768, doc = "Of content; more is kept as a blob"},
  }),
}

local function add(errors, pointer, code, message)
  errors[#errors + 1] = {pointer = pointer, code = code, message = message}
end

local function check_headers(headers, errors)
  local seen = {}
  local names = {}
  for name in pairs(headers) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local v, at, lower = headers[name], "/http/headers/" .. name:gsub("~", "~0"):gsub("/", "~1"), name:lower()
    if #name > 100 or not name:find("^[A-Za-z0-9!#$%%&'*+.^_`|~-]+$") then
      add(errors, at, "pattern", "is not a header's name")
    elseif reserved[lower] then
      add(errors, at, "invalid", "is set by the service")
    elseif seen[lower] then
      add(errors, at, "duplicate", "is there twice, in another case")
    elseif type(v) ~= "string" then
      add(errors, at, "type", "must be a string")
    elseif #v > 4000 or v:find("[%z\1-\8\10-\31\127]") then
      add(errors, at, "pattern", "must have at most 4000 bytes and no control characters")
    elseif v:find("^env:") and not v:find(M.env_pattern) then
      add(errors, at, "pattern", "only variables of the environment named KONTOR_TOOL_… can be sent")
    elseif v:find("^secret:") and not secret.valid_name(v:match(M.secret_pattern)) then
      add(errors, at, "pattern", "names no secret: what is behind secret: must match " .. secret.types.name.pattern)
    elseif carries_secret[lower] and not v:find("^secret:") and not v:find(M.env_pattern) then
      add(errors, at, "invalid", "carries a secret, which everyone who reads this tool would see: write secret:NAME, or "
        .. "env:KONTOR_TOOL_NAME")
    end
    seen[lower] = true
  end
end

local function check_http(http, errors)
  local fault = url_template.fault(http.url)
  if fault then add(errors, "/http/url", "format", fault) end
  check_headers(http.headers, errors)
end

-- The script must be there, and declare a tool.
local function check_script(db, path, errors)
  local head, err = db:find_one("kt_m_scripts", {_id = path}, {projection = {"kind"}})
  if err then return err end
  if not head then add(errors, "/script", "not_found", "does not exist")
  elseif head.kind ~= "tool" then add(errors, "/script", "invalid", "declares a " .. head.kind .. ", not a tool") end
end

local function check(_, plain, db)
  local errors, err = {}, nil
  if plain.kind == "mcp" then
    add(errors, "/kind", "invalid", "tools of MCP servers are not yet in this service")
  end
  for _, kind in ipairs{"mcp", "script", "http"} do
    local given = plain[kind] ~= json.null
    if kind == plain.kind and not given then add(errors, "/" .. kind, "required", "is required for kind " .. kind)
    elseif kind ~= plain.kind and given then add(errors, "/" .. kind, "invalid", "is only for kind " .. kind) end
  end
  if plain.kind == "http" and plain.http ~= json.null then check_http(plain.http, errors) end
  if plain.kind == "script" and plain.script ~= json.null then err = check_script(db, plain.script, errors) end
  for _, name in ipairs{"input_schema", "output_schema"} do
    if plain[name] ~= json.null then json_schema.check_schema(plain[name], "/" .. name, errors) end
  end
  return errors, err
end

M.kind = {
  kind = "tool", coll = "kt_m_tools", versions = "kt_m_versions", audit = "tool", id_field = "tool_id",
  type = M.types.tool, check = check,
  path = function(_, id) return "/api/v1/master/tools/" .. id end,
}

---May a call be made again when nobody knows whether it was made? What only reads may. An HTTP method
---that is not made for reading is taken at its word only when the tool says that it is idempotent.
---@param tool table stored form
---@return boolean
function M.only_reads(tool)
  if tool.writes then return false end
  return tool.kind ~= "http" or tool.http.method == "GET" or tool.http.method == "HEAD"
end

return M
