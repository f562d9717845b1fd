--- A tool of kind http: one request, on the worker's libcurl. The answer is what the script gets,
--- whatever its status; redirects are answers too, they are not followed.

local config = require "kt.config"
local fetch = require "kt.fetch"
local given = require "lib.given"
local hide = require "lib.hide"
local json = require "json"
local log = require "kt.log"
local secret = require "domain.secret"
local tools = require "domain.tool"
local url_template = require "lib.url_template"
local value = require "value"

local M = {}

--- Bytes of a body, decoded, that are read at all.
M.BODY_BYTES = 16 * 1024 * 1024

--- The list of the egress policy.
---@return string
function M.egress()
  return config.get("KONTOR_EGRESS_ALLOW")
end

local function invalid(faults)
  return nil, { code = "validation_failed", message = "the arguments do not fit the tool: "
    .. faults[1].pointer .. " " .. faults[1].message, retryable = false, details = { errors = json.array(faults) } }
end

local function unset(message) return nil, { code = "tool_error", message = message, retryable = false } end

--- The value that a header's text refers to; the text itself when it refers to nothing.
---@return string? value, table? err, string? reference
local function referred(text, run)
  local variable, name = text:match(tools.env_pattern), text:match(tools.secret_pattern)
  local v, err = text
  if variable then
    v = os.getenv(variable)
    if not v then return unset(variable .. " is not set for the service") end
  elseif name then
    v, err = secret.value({ id = run.project_id, db = run.db }, name)
    if not v and err.retryable then return nil, err end
    if not v and err.code == "not_found" then return unset(err.message) end
    if not v then
      log.error("tool.secret", { project_id = run.project_id, execution_id = run.execution_id, msg = err.message })
      return unset("the secret " .. name .. " does not open; the service's log says why")
    end
  end
  if text ~= v and v:find("[%c\127]") then return unset(text .. " is no header's value: it has a control character") end
  return v, nil, text ~= v and text or nil
end

--- The headers of a request, and by their references the values among them that nobody is to see.
local function headers_of(tool, key, run)
  local headers, hidden = { ["User-Agent"] = "kontor/" .. config.version(), ["Idempotency-Key"] = key }, {}
  for name, text in pairs(given(tool.http.headers) or {}) do
    local v, err, reference = referred(text, run)
    if not v then
      return nil, err
    end
    headers[name] = v
    if reference then hidden[reference] = v end
  end
  return headers, hidden
end

--- The request that a call means. Arguments that are no part of the URL are the body; where there is
--- no body there may be none.
---@param tool table stored form
---@param args table
---@param key string Idempotency-Key
---@param run door.Context in whose project it is called
---@return table? request, table? err
function M.request(tool, args, key, run)
  local url = tool.http.url
  local present = {}
  for name, v in pairs(args) do
    present[name] = given(v)
  end
  local filled, fault = url_template.fill(url, present)
  if not filled then
    return invalid { fault }
  end
  local headers, hidden = headers_of(tool, key, run)
  if not headers then
    return nil, hidden
  end
  local named, rest, faults = url_template.names(url), {}, {}
  for name, v in pairs(args) do
    if not named[name] then
      rest[name] = v
      faults[#faults + 1] = { pointer = "/" .. name, code = "unknown_field", message = "is not in the URL of this tool" }
    end
  end
  local body
  if not tools.bodiless[tool.http.method] then
    body = json.encode(rest)
    local typed = false
    for name in pairs(headers) do
      typed = typed or name:lower() == "content-type"
    end
    if not typed then
      headers["Content-Type"] = "application/json"
    end
  elseif #faults > 0 then
    table.sort(faults, function(a, b)
      return a.pointer < b.pointer
    end)
    return invalid(faults)
  end
  return { method = tool.http.method, url = filled, headers = headers, body = body, hide = hide.of(hidden) }
end

local function failure(tool, err, repeatable)
  if err.code == "forbidden" then
    return nil, { code = "tool_denied", message = err.message, retryable = false }
  elseif err.code == "deadline_exceeded" then
    return nil, { code = err.code, retryable = repeatable,
      message = ("tool %s did not answer within %g seconds"):format(tool._id, tool.timeout_seconds) }
  elseif err.code == "cancelled" then
    return nil, err
  end
  return nil, { code = "tool_error", message = tostring(err.message), retryable = err.code == "upstream_failed" and repeatable }
end

--- Make the request.
---@param tool table
---@param request table of M.request
---@param repeatable boolean it may be sent again
---@return door.Outcome? answer, table? err
function M.perform(tool, request, repeatable)
  request.timeout, request.max = tool.timeout_seconds, M.BODY_BYTES
  request.egress, request.decode, request.once = M.egress(), true, not repeatable
  local shown = request.hide
  request.hide = nil
  local made, answer, err = pcall(fetch, request)
  if not made then
    -- A structured error: this task is cancelled, or the request is none to libcurl.
    return failure(tool, type(answer) == "table" and answer or { code = "internal", message = answer }, false)
  elseif not answer then
    return failure(tool, err, repeatable)
  end
  -- Some show in their answer what they were sent.
  answer.body = shown(answer.body)
  local media = shown(answer.headers["content-type"] or ""):lower():match("^[^;%s]*")
  local is_json = media == "application/json" or media:find("^application/[%w.-]+%+json$") ~= nil
  local decoded
  if is_json and answer.body ~= "" and value.is_text(answer.body) then
    decoded = json.decode(answer.body)
  end
  return {
    ok = answer.status >= 200 and answer.status < 300,
    status = answer.status,
    body = answer.body,
    media = media,
    value = decoded,
  }
end

return M
