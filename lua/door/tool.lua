--- tool.call(tool_id, args) -> {ok, content, value?, status?, blob?, bytes?, truncated?}
---
--- Only tools of the run's agent, at the versions that its snapshot pins. A tool that only reads is
--- read again when a crash has lost its answer. Any other call is an effect: its answer is in the
--- store before the script goes on. Where it is not idempotent, the event tool.started is in the store
--- before it is made; a run that finds it there without an answer does not make the call again, the
--- script gets outcome_unknown.

local clock = require "kt.clock"
local given = require "lib.given"
local http_tool = require "door.http_tool"
local json = require "json"
local json_schema = require "lib.json_schema"
local storage = require "domain.storage"
local tools = require "domain.tool"
local value = require "value"

local M = {}

---@class door.Outcome what a tool has given
---@field ok boolean
---@field body string
---@field media string
---@field value any of a body that is JSON, or of what a script returned; nil: none
---@field status integer? of http

--- Bytes of arguments that an event shows; more are kept as a blob.
local SHOWN_BYTES = 16 * 1024

local function fail(code, message, details)
  return nil, { code = code, message = message, retryable = false, details = details }
end

local function mismatch(code, what, errors)
  return fail(code, what .. ": " .. errors[1].pointer .. " " .. errors[1].message, { errors = json.array(errors) })
end

local function listed(capability, id)
  for _, one in ipairs(capability and capability.tools or {}) do
    if one == id then
      return true
    end
  end
  return false
end

--- The tool, if this run may call it so.
local function permitted(call)
  local id, args = call.args.tool_id, call.args.args
  if not listed(call.run.capability, id) then
    return fail("tool_denied", "the agent has no tool '" .. tostring(id):sub(1, 64) .. "'")
  end
  local tool = call.run.tools[id]
  if not tool then
    return fail("tool_not_found", "there is no tool '" .. id .. "'")
  elseif not tool.enabled then
    return fail("tool_denied", "the tool '" .. id .. "' is disabled")
  elseif type(args) ~= "table" or getmetatable(args) == json.array_mt and #args > 0 then
    return fail("validation_failed", "tool.call wants the arguments as a table with names")
  end
  local errors = given(tool.input_schema) and json_schema.check(tool.input_schema, args) or {}
  if #errors > 0 then
    return mismatch("validation_failed", "the arguments do not fit the tool's input_schema", errors)
  end
  return tool
end

--- What followers see of the arguments.
local function shown(call, args)
  local blob = value.encode(args)
  if #blob <= SHOWN_BYTES then
    return args
  end
  local text = value.json(blob)
  local kept, err = storage.keep(call.run.db, text, call.run.execution_id)
  return kept and { blob = kept.sha256, bytes = #text }, err
end

--- The beginning of a text, whole characters, at most `max` bytes.
local function cut(text, max)
  local last = max
  while last > 0 and (text:byte(last + 1) or 0) >= 0x80 and (text:byte(last + 1) or 0) < 0xC0 do
    last = last - 1
  end
  return text:sub(1, last)
end

--- What is recorded of an answer: its text when it is one and short enough, else a blob of it all.
local function recorded(call, tool, answer)
  local body = answer.body
  local record = { ok = answer.ok, status = answer.status, content = body }
  local is_text = value.is_text(body)
  if is_text and #body <= tool.max_result_bytes then
    if answer.value ~= nil then
      record.value_is = type(answer.value) == "string" and answer.media == "text/plain" and "text" or "json"
    end
    return record
  end
  local kept, err = storage.keep(call.run.db, body, call.run.execution_id)
  if not kept then
    return nil, err
  end
  record.blob, record.bytes, record.truncated = kept.sha256, #body, true
  record.content = is_text and cut(body, tool.max_result_bytes)
    or ("(%d bytes of %s)"):format(#body, answer.media ~= "" and answer.media or "unknown type")
  return record
end

local function check_output(tool, answer)
  local schema = given(tool.output_schema)
  if not schema or not answer.ok then
    return true
  elseif answer.value == nil then
    return fail("tool_error", "the tool's answer is no JSON, so it does not fit its output_schema")
  end
  local errors = json_schema.check(schema, answer.value)
  if #errors > 0 then
    return mismatch("tool_error", "the tool's answer does not fit its output_schema", errors)
  end
  return true
end

local function completed(call, tool, began, record, err, id)
  call.complete("tool.completed", {
    call_id = tostring(id or call.id),
    tool_id = tool._id,
    ok = record ~= nil and record.ok,
    result = record and not record.blob and record.content or nil,
    blob = record and record.blob or nil,
    bytes = record and (record.bytes or #record.content) or 0,
    truncated = record ~= nil and record.truncated == true,
    duration_ms = math.max(0, clock.now() - began),
    error = err and { code = err.code, message = tostring(err.message):sub(1, 2000), retryable = err.retryable == true } or nil,
  }, { kind = "tool", tool_id = tool._id, ok = record ~= nil and record.ok })
end

--- What is recorded of an outcome, if it fits.
local function settle(call, tool, outcome)
  local fits, err = check_output(tool, outcome)
  if not fits then
    return nil, err
  end
  return recorded(call, tool, outcome)
end

local function started(call, tool)
  local arguments, err = shown(call, call.args.args)
  if not arguments then
    return nil, err
  end
  call.emit("tool.started",
    { call_id = tostring(call.id), step = call.step, tool_id = tool._id, arguments = arguments })
  return true
end

--- A tool that is a script computes in the run (vm/prelude.lua) and comes back with tool.returned; what
--- it does to the world are the run's own calls, each with its own place in the journal.
local function script(call, tool)
  local ok, err = started(call, tool)
  if not ok then
    return nil, err
  end
  call.class = "read"
  return { script = tool.script, call = { id = call.id, tool_id = tool._id, began = clock.now() } }
end

--- class: an effect, but see call.class.
M.call = { class = "effect", answer_bytes = 36 * 1024 }

---@param call door.Call
function M.call.run(call)
  local tool, err = permitted(call)
  if not tool then
    return nil, err
  end
  local only_reads = tools.only_reads(tool)
  local repeatable = only_reads or tool.idempotent
  if tool.kind == "script" then
    return script(call, tool)
  end
  if only_reads then
    call.class = "read"
  end
  local request
  request, err = http_tool.request(tool, call.args.args, call.run.execution_id .. ":" .. call.id, call.run)
  if not request then
    return nil, err
  end
  local began, record = clock.now(), nil
  if call.begun("tool.started") and not repeatable then
    err = { code = "outcome_unknown", retryable = false, message = "the worker ended while the tool '" .. tool._id
      .. "' was called; it may or may not have been done, and is not done again" }
  else
    local ok
    ok, err = started(call, tool)
    if not ok then
      return nil, err
    end
    if not repeatable then
      local written
      written, err = call.written()
      if not written then
        return nil, err
      end
    end
    local outcome
    outcome, err = http_tool.perform(tool, request, repeatable)
    if outcome then
      record, err = settle(call, tool, outcome)
    end
  end
  completed(call, tool, began, record, err)
  return record, err
end

--- The value of an answer is made out of its text again, it is not recorded twice.
---@param answer table
function M.call.expand(answer)
  if answer.value_is == "json" then
    answer.value = json.decode(answer.content)
  elseif answer.value_is == "text" then
    answer.value = answer.content
  end
  answer.value_is = nil
  return answer
end

--- tool.returned{call, value, error} -> as tool.call: what a tool's script has come to.
M.returned = { class = "read", answer_bytes = M.call.answer_bytes, expand = M.call.expand }

---@param call door.Call
function M.returned.run(call)
  local of, problem, v = call.args.call, given(call.args.error), call.args.value
  local tool = call.run.tools[of.tool_id]
  local record, err
  if problem then
    err = { code = "tool_error", message = "tool " .. tool._id .. ": " .. problem.message,
      retryable = problem.retryable == true, details = { code = problem.code } }
  else
    local is_text = type(v) == "string"
    record, err = settle(call, tool, { ok = true, body = is_text and v or v == nil and "" or json.encode(v), value = v,
      media = is_text and "text/plain" or "application/json" })
  end
  completed(call, tool, of.began, record, err, of.id)
  return record, err
end

return M
