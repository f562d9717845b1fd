--- Options of a command: `--name value`, `--name=value`, `--flag`.
local M = {}

---@class lib.Option
---@field [1] string name without dashes
---@field [2] string? what its value is ("DIR"); nil: a flag
---@field [3] string what it is for
---@field many boolean? may be given again; the value is then a list
---@field required boolean?
---@field default string? for the help alone

---@param spec { usage: string, options: lib.Option[] }
---@return string
function M.help(spec)
  local lines = { "usage: " .. spec.usage, "" }
  for _, option in ipairs(spec.options) do
    local head = "--" .. option[1] .. (option[2] and " " .. option[2] or "")
    local default = option.default and " (default " .. option.default .. ")" or ""
    lines[#lines + 1] = string.format("  %-26s %s%s", head, option[3], default)
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Parse a command line.
---@param args string[]
---@param spec { usage: string, options: lib.Option[] }
---@return table<string, any>? values by name; value.help is true when it was asked for
---@return string? problem for exit code 2
function M.parse(args, spec)
  local by_name, values = {}, {}
  for _, option in ipairs(spec.options) do by_name[option[1]] = option end
  local i = 1
  while i <= #args do
    local arg = args[i]
    if arg == "--help" or arg == "-h" then return { help = true } end
    local name, value = arg:match("^%-%-([%w-]+)=?(.*)$")
    if not name then return nil, "'" .. arg .. "' is no option" end
    local option = by_name[name]
    if not option then return nil, "there is no option --" .. name end
    if not option[2] then
      if arg:find("=", 1, true) then return nil, "--" .. name .. " takes no value" end
      value = true
    elseif not arg:find("=", 1, true) then
      i = i + 1
      value = args[i]
      if value == nil then return nil, "--" .. name .. " wants " .. option[2] end
    end
    if option.many then
      values[name] = values[name] or {}
      table.insert(values[name], value)
    elseif values[name] ~= nil then
      return nil, "--" .. name .. " is given twice"
    else
      values[name] = value
    end
    i = i + 1
  end
  for _, option in ipairs(spec.options) do
    if option.required and values[option[1]] == nil then return nil, "--" .. option[1] .. " is missing" end
  end
  return values
end

return M
