--- Template errors: one shape, raised inside the template code, returned at its border.
local M = {}

--- Line and column travel as one number, so that generated code carries them as a constant.
local COLUMNS = 2 ^ 20

---@param line integer from 1
---@param column integer from 1, in bytes
---@return integer position
function M.position(line, column)
  return line * COLUMNS + math.min(column, COLUMNS - 1)
end

---@class TemplateError
---@field code "template_error"
---@field message string
---@field retryable false
---@field details { template: string, line: integer?, column: integer? }

--- An error at a place of a template.
---@param template string|nil filled in by M.complete when it is nil
---@param position integer|nil of M.position
---@param message string
---@return TemplateError
function M.at(template, position, message)
  local err = {
    code = "template_error",
    message = message,
    retryable = false,
    details = {
      line = position and math.floor(position / COLUMNS),
      column = position and position % COLUMNS,
    },
  }
  return template and M.complete(err, template) or err
end

--- Raise a template error.
---@param position integer|nil of M.position
---@param message string
function M.raise(position, message)
  error(M.at(nil, position, message), 0)
end

--- Complete a caught error: name the template and put the place into the message.
---@param err any what pcall caught
---@param template string
---@return TemplateError
function M.complete(err, template)
  if type(err) ~= "table" or err.code ~= "template_error" then
    return err
  end
  local details = err.details
  if not details.template then
    details.template = template
    if details.line then
      err.message = ("%s:%d:%d: %s"):format(template, details.line, details.column, err.message)
    else
      err.message = ("%s: %s"):format(template, err.message)
    end
  end
  return err
end

return M
