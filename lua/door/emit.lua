--- Calls that only say something: log, progress, result.partial. Published to who follows now,
--- never journalled, never answered.

local log = require "kt.log"

local M = {}

local LEVELS = { debug = log.debug, info = log.info, warn = log.warn, error = log.error }

--- log(level, text, fields)
M.log = { class = "emit" }

---@param call door.Call
function M.log.run(call)
  local level, text, fields = call.args.level, call.args.message, call.args.fields
  local write = LEVELS[level]
  if not write then
    level, write = "info", log.info
  end
  text = tostring(text or "")
  call.publish("log", { level = level, message = text, fields = type(fields) == "table" and fields or {} })
  write("script.log", {
    project_id = call.run.project_id,
    execution_id = call.run.execution_id,
    msg = text,
  })
end

--- progress(done, total, text)
M.progress = { class = "emit" }

---@param call door.Call
function M.progress.run(call)
  call.publish("progress", call.args)
end

--- result.partial(value): the output of the run should it be stopped before it returns.
M.partial = { class = "emit" }

---@param call door.Call
function M.partial.run(call)
  call.run.progress.partial = call.args.value
end

return M
