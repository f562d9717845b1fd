-- The OpenAPI 3.1 document, made from the route table: what validates is what is documented.

local json = require "json"
local problem = require "http.problem"

local M = {}

local build

-- Field list -> properties and required. `want` says which fields the form has.
local function properties(fields, form, components)
  local props, required, order = {}, {}, {}
  for _, f in ipairs(fields) do
    local name, ty = f[1], f[2]
    if form == "answer" or not f.ro or form == "replace" then
      local s = build(ty, form == "answer" and "answer" or "create", components)
      if f.nullable then s = M.nullable(s) end
      if s["$ref"] and (f.doc or f.ro) then s = {allOf = json.array{s}} end
      if f.doc then s.description = f.doc end
      if f.ro and form == "replace" then
        s.description = "Set by the service; may be repeated as it is."
      end
      if f.ro then s.readOnly = true end
      if type(f.default) ~= "function" and f.default ~= nil and form ~= "answer" then s.default = f.default end
      props[name] = s
      order[#order + 1] = name
      if form == "answer" or (f.required and not (form == "replace" and f.immutable)) then
        required[#required + 1] = name
      end
    end
  end
  return json.ordered(props, order), #required > 0 and json.array(required) or nil
end

function M.nullable(s)
  if s["$ref"] then return {anyOf = json.array{s, {type = "null"}}} end
  if type(s.type) == "string" then s.type = json.array{s.type, "null"} end
  if s.enum then
    local values = {}
    for i, x in ipairs(s.enum) do values[i] = x end
    values[#values + 1] = json.null
    s.enum = json.array(values)
  end
  return s
end

local kinds = {}

function kinds.str(ty)
  return {type = "string", enum = ty.enum and json.array(ty.enum),
    pattern = ty.pattern or (not ty.enum and "^[^\\u0000]*$") or nil,
    maxLength = not ty.enum and (ty.max_bytes or ty.max) or nil, minLength = ty.min}
end
function kinds.int(ty) return {type = "integer", minimum = ty.min, maximum = ty.max} end
function kinds.num(ty) return {type = "number", minimum = ty.min, maximum = ty.max} end
function kinds.bool() return {type = "boolean"} end
function kinds.dec() return {type = "string", pattern = "^-?[0-9]+(?:\\.[0-9]+)?$"} end
function kinds.usd() return {type = "string", pattern = "^[0-9]+(?:\\.[0-9]{1,9})?$", description = "USD"} end
function kinds.ts() return {type = "string", format = "date-time"} end
function kinds.date() return {type = "string", format = "date"} end
function kinds.any() return {} end

function kinds.map(ty, _, components)
  local s = {type = "object", additionalProperties = true}
  if ty.fields then s.properties = (properties(ty.fields, "create", components)) end
  return s
end

function kinds.list(ty, form, components)
  return {type = "array", items = build(ty.item, form, components), maxItems = form ~= "answer" and ty.max or nil,
    uniqueItems = ty.unique == true and form ~= "answer" or nil}
end

function kinds.object(ty, form, components)
  local props, required = properties(ty.fields, form, components)
  return {type = "object", properties = props, required = required,
    additionalProperties = form == "answer" or false}
end

-- Of bodies that are no text.
local binary = {["application/x-tar"] = true, ["application/gzip"] = true}

local function bytes_of(media)
  if media == "application/json" then return {type = "object"} end
  return {type = "string", format = binary[media] and "binary" or nil}
end

local suffix = {answer = "", create = "Create", replace = "Replace"}

---A type as JSON Schema; named ones become components.
---@param ty kontor.Type
---@param form "answer"|"create"|"replace"
---@param components table
function build(ty, form, components)
  if not ty.name then return kinds[ty.kind](ty, form, components) end
  local name = ty.name
  if ty.kind == "object" and not name:find(suffix[form] .. "$") then name = name .. suffix[form] end
  if not components[name] then
    components[name] = {} -- stands for itself while it is built
    components[name] = kinds[ty.kind](ty, form, components)
  end
  return {["$ref"] = "#/components/schemas/" .. name}
end

local problem_schema = {
  type = "object",
  required = json.array{"type", "title", "status", "code", "detail", "retryable", "request_id"},
  properties = {
    type = {type = "string"}, title = {type = "string"}, status = {type = "integer"}, code = {type = "string"},
    detail = {type = "string"}, retryable = {type = "boolean"}, request_id = {type = "string"},
    errors = {type = "array", items = {
      type = "object", required = json.array{"code", "message"},
      properties = {pointer = {type = "string"}, parameter = {type = "string"}, header = {type = "string"},
        code = {type = "string"}, message = {type = "string"}},
    }},
  },
}

local page_schema = {
  type = "object", required = json.array{"next_cursor", "limit"},
  properties = {next_cursor = {type = json.array{"string", "null"}}, limit = {type = "integer", minimum = 1, maximum = 500}},
}

local function parameters(route, components)
  local list = {}
  for name in route.path:gmatch("{([^}]+)}") do
    list[#list + 1] = {name = name, ["in"] = "path", required = true, schema = build(route.params[name], "create", components)}
  end
  for _, f in ipairs(route.query or {}) do
    local s = build(f[2], "create", components)
    s.default = f.default
    list[#list + 1] = {name = f[1], ["in"] = "query", required = f.required or false, schema = s, description = f.doc}
  end
  if route.method == "POST" then
    list[#list + 1] = {name = "Idempotency-Key", ["in"] = "header", required = false,
      schema = {type = "string", minLength = 1, maxLength = 200, pattern = "^[!-~]+$"}}
  end
  if route.if_match then
    list[#list + 1] = {name = "If-Match", ["in"] = "header", required = false, schema = {type = "string"}}
  end
  for _, h in ipairs(route.headers or {}) do
    list[#list + 1] = {name = h[1], ["in"] = "header", required = false, schema = {type = "string"}, description = h[2]}
  end
  return #list > 0 and json.array(list) or nil
end

local function body(route, components)
  if route.upload then
    local content = {}
    for _, media in ipairs(route.upload) do
      content[media] = {schema = bytes_of(media), example = route.upload_examples and route.upload_examples[media]}
    end
    return {required = true, content = content}
  end
  if not route.body then return nil end
  local example = route.example
  assert(example, route.operation_id .. ": a body needs an example")
  if next(example) == nil then example = {} end
  return {required = next(example) ~= nil, content = {
    ["application/json"] = {schema = build(route.body, route.mode or "create", components), example = example},
  }}
end

local header_docs = {
  Location = {schema = {type = "string"}}, ETag = {schema = {type = "string"}},
  ["Retry-After"] = {schema = {type = "string"}}, ["Content-Disposition"] = {schema = {type = "string"}},
  ["Content-Length"] = {schema = {type = "integer"}},
}

local function responses(route, components)
  local out = {}
  for status, a in pairs(route.answers) do
    local content
    if a.list then
      content = {["application/json"] = {schema = {
        type = "object", required = json.array{"data", "page"},
        properties = {data = {type = "array", items = build(a.list, "answer", components)},
          page = {["$ref"] = "#/components/schemas/Page"}},
      }}}
    elseif a.type then
      content = {["application/json"] = {schema = build(a.type, "answer", components)}}
    end
    for _, media in ipairs(a.media or {}) do
      content = content or {}
      content[media] = content[media] or {schema = bytes_of(media)}
    end
    local headers
    for _, h in ipairs(a.headers or {}) do
      headers = headers or {}
      headers[h] = header_docs[h]
    end
    out[tostring(status)] = {description = a.doc or "OK", content = content, headers = headers}
  end
  out.default = {["$ref"] = "#/components/responses/Problem"}
  return out
end

---@param routes kontor.Route[]
---@param version string
---@return table the document
function M.document(routes, version)
  local components = {Problem = problem_schema, Page = page_schema}
  local paths = {}
  for _, route in ipairs(routes) do
    local at = paths[route.path] or {}
    paths[route.path] = at
    at[route.method:lower()] = {
      operationId = route.operation_id, summary = route.summary, description = route.description,
      tags = json.array{route.tag or "service"},
      ["x-kontor-role"] = route.role, ["x-kontor-whole"] = route.whole, ["x-kontor-near"] = route.near,
      security = route.role == "any" and json.array{} or nil,
      parameters = parameters(route, components), requestBody = body(route, components),
      responses = responses(route, components),
    }
  end
  return json.ordered({
    openapi = "3.1.0",
    info = {title = "Kontor", version = version,
      description = "Multi-tenant AI agent orchestration with ERP exception management."},
    paths = paths,
    security = json.array{{bearer = json.array{}}, {api_key = json.array{}}},
    components = {schemas = components, securitySchemes = {
      bearer = {type = "http", scheme = "bearer", description = "An API key. None is needed as long as none is stored."},
      api_key = {type = "apiKey", ["in"] = "header", name = "X-API-Key"},
    }, responses = {Problem = {
      description = "Any failure", content = {[problem.media_type] = {schema = {["$ref"] = "#/components/schemas/Problem"}}},
    }}},
  }, {"openapi", "info", "paths", "components"})
end

return M
