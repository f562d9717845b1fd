--- A tool of kind http: one request, on the worker's libcurl. The answer is what the script gets,
--- whatever its status; redirects are answers too, they are not followed.

local config = require "kt.config"
local fetch = require "kt.fetch"
local given = require "lib.given"
local json = require "json"
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

local function headers_of(tool, key)
  local headers = { ["User-Agent"] = "kontor/" .. config.version(), ["Idempotency-Key"] = key }
  for name, text in pairs(given(tool.http.headers) or {}) do
    local variable = text:match(tools.env_pattern)
    if variable then
      text = os.getenv(variable)
      if not text or text:find("[%c\127]") then
        return nil, { code = "tool_error", message = variable .. " is not set for the service, or is no header's value",
          retryable = false }
      end
    end
    headers[name] = text
  end
  return headers
end

--- The request that a call means. Arguments that are no part of the URL are the body; where there is
--- no body there may be none.
---@param tool table stored form
---@param args table
---@param key string Idempotency-Key
---@return table? request, table? err
function M.request(tool, args, key)
  local url = tool.http.url
  local present = {}
  for name, v in pairs(args) do
    present[name] = given(v)
  end
  local filled, fault = url_template.fill(url, present)
  if not filled then
    return invalid { fault }
  end
  local headers, err = headers_of(tool, key)
  if not headers then
    return nil, err
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
  return { method = tool.http.method, url = filled, headers = headers, body = body }
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
  local made, answer, err = pcall(fetch, request)
  if not made then
    -- A structured error: this task is cancelled, or the request is none to libcurl.
    return failure(tool, type(answer) == "table" and answer or { code = "internal", message = answer }, false)
  elseif not answer then
    return failure(tool, err, repeatable)
  end
  local media = (answer.headers["content-type"] or ""):lower():match("^[^;%s]*")
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
