-- Problems: one table of error codes (api.md 7), and how an error becomes an answer.
--
-- Everything that fails returns `nil, err` with err = {code, message, retryable, ...}. Here the code
-- finds its status and title, and the answer is RFC 9457 `application/problem+json`. A code that is
-- not in the table is a fault of ours: it is logged and answered as `internal`, without its message.

local json = require "json"

local M = {}

M.media_type = "application/problem+json"

-- code = {status, title, retryable, inside}. inside: the message is of the service's inside (paths,
-- statements); it goes to the log, the client gets the title.
local codes = {
  invalid_json = {400, "The body is not valid JSON"},
  malformed_request = {400, "The request is malformed"},
  unauthenticated = {401, "A valid key is needed"},
  forbidden = {403, "Not allowed"},
  origin_refused = {403, "This host or origin is not served"},
  quota_exceeded = {403, "A quota of the project is used up"},
  not_found = {404, "Not found"},
  method_not_allowed = {405, "Method not allowed"},
  not_acceptable = {406, "No acceptable representation"},
  request_timeout = {408, "The request took too long to arrive", true},
  already_exists = {409, "Already exists"},
  invalid_state = {409, "Not possible in this state"},
  archived = {409, "Archived"},
  dataset_open = {409, "The dataset is still open"},
  dataset_sealed = {409, "The dataset is sealed"},
  idempotency_in_progress = {409, "The first request with this key is still running", true},
  conflict = {409, "Changed by someone else meanwhile", true},
  gone = {410, "Deleted by the project's retention policy"},
  length_required = {411, "Length required"},
  version_mismatch = {412, "Not the expected version"},
  body_too_large = {413, "The body is too large"},
  uri_too_long = {414, "The request target is too long"},
  unsupported_media_type = {415, "Unsupported media type"},
  validation_failed = {422, "The request has faults"},
  invalid_cursor = {422, "The cursor is not valid here"},
  idempotency_mismatch = {422, "The key was used with another body"},
  template_error = {422, "The template has a fault"},
  script_error = {422, "The script has a fault"},
  data_rejected = {422, "The data cannot be read"},
  upgrade_required = {426, "An upgrade to WebSocket is required"},
  headers_too_large = {431, "The headers are too large"},
  rate_limited = {429, "Too many requests", true},
  concurrency_limited = {429, "Too many at the same time", true},
  queue_full = {429, "The queue is full", true},
  budget_exceeded = {429, "The budget is used up"},
  internal = {500, "Internal error", true, true},
  store_corrupt = {500, "The store is damaged", false, true},
  upstream_failed = {502, "A service behind this one failed", true},
  overloaded = {503, "Overloaded", true},
  store_unavailable = {503, "The store is not reachable", true, true},
  outcome_unknown = {503, "It is not known whether the change was made", true, true},
  restoring = {503, "The project is being restored", true},
  draining = {503, "The service is going down", true},
  deadline_exceeded = {504, "It took too long", true},
  storage_full = {507, "The storage is full", true, true},
}
M.codes = codes

-- What the client is told instead of the inside of a fault.
local internal_detail = "The fault is in the service; its log has it under this request id."
local order = {"type", "title", "status", "code", "detail", "retryable", "request_id", "quota", "errors"}
local quota_order = {"name", "used", "limit"}
local error_order = {"pointer", "parameter", "header", "code", "message"}

---@class kontor.FieldError
---@field pointer? string JSON pointer into the body
---@field parameter? string name of the query or path parameter
---@field header? string
---@field code string required, unknown_field, type, format, enum, min, max, length, pattern, immutable, not_found, duplicate, invalid
---@field message string

---@class kontor.Error
---@field code string of api.md 7
---@field message? string
---@field retryable? boolean
---@field errors? kontor.FieldError[]
---@field headers? table<string,string> further headers of the answer
---@field retry_after? number seconds
---@field quota? {name: string, used: integer, limit: integer} of the project, that refused

---Make an error value, for `return nil, problem.err(...)`.
---@param code string
---@param message? string
---@param more? table further fields of the error
---@return kontor.Error
function M.err(code, message, more)
  local e = more or {}
  e.code, e.message = code, message
  local known = codes[code]
  if e.retryable == nil then e.retryable = known and known[3] or false end
  return e
end

---An error of one field, for `return nil, problem.field(...)`.
---@param where kontor.FieldError without code and message
---@param code string
---@param message string
function M.field(where, code, message)
  where.code, where.message = code, message
  return M.err("validation_failed", nil, {errors = {where}})
end

---The answer for an error.
---@param err any
---@param request_id string
---@return integer status
---@return table<string,string> headers
---@return string body
---@return boolean internal whether the error is ours and must be logged
function M.answer(err, request_id)
  if type(err) ~= "table" then err = {code = "internal"} end
  local code = err.code
  local known = codes[code]
  if not known then code, known = "internal", codes.internal end
  local ours = known[4] or false
  local detail = ours and known[2] .. "." or err.message or known[2]
  if code == "internal" then detail = internal_detail end
  local retryable = err.retryable
  if retryable == nil or ours then retryable = known[3] or false end
  local doc = {
    type = "urn:kontor:error:" .. code, title = known[2], status = known[1], code = code,
    detail = detail, retryable = retryable, request_id = request_id,
  }
  if err.quota then doc.quota = json.ordered(err.quota, quota_order) end
  if err.errors then
    local list = {}
    for i, e in ipairs(err.errors) do
      list[i] = json.ordered({pointer = e.pointer, parameter = e.parameter, header = e.header,
        code = e.code, message = e.message}, error_order)
    end
    doc.errors = json.array(list)
    if not err.message then
      local n = #err.errors
      doc.detail = n == 1 and err.errors[1].message or ("The request has " .. n .. " faults.")
    end
  end
  local headers = {["Content-Type"] = M.media_type}
  for name, v in pairs(err.headers or {}) do headers[name] = v end
  if err.retry_after then
    headers["Retry-After"] = tostring(math.ceil(err.retry_after))
  elseif known[1] == 503 or (known[1] == 429 and code ~= "budget_exceeded") then
    headers["Retry-After"] = "1"
  end
  return known[1], headers, json.encode(json.ordered(doc, order)), ours
end

return M
