--- The command line of a command: `--name value`, `--name=value`, `--flag`, and arguments.
local M = {}

---@class lib.Option
---@field [1] string name without dashes
---@field [2] string? what its value is ("DIR"); nil: a flag
---@field [3] string what it is for
---@field many boolean? may be given again; the value is then a list
---@field required boolean?
---@field default string? for the help alone

---@class lib.Argument
---@field [1] string its name in the usage
---@field [2] string what it is
---@field optional boolean?
---@field many boolean? the last one: takes all that is left, at least one

---@class lib.CommandLine
---@field usage string
---@field arguments lib.Argument[]? their values are at 1, 2, …
---@field options lib.Option[]
---@field after string? further lines of the help
---@field secret boolean? no message quotes an argument: it may be a secret that was put there by mistake

---@param spec lib.CommandLine
---@return string
function M.help(spec)
  local lines = { "usage: " .. spec.usage }
  if #spec.options + #(spec.arguments or {}) > 0 then lines[2] = "" end
  for _, argument in ipairs(spec.arguments or {}) do
    lines[#lines + 1] = string.format("  %-26s %s", argument[1], argument[2])
  end
  for _, option in ipairs(spec.options) do
    local head = "--" .. option[1] .. (option[2] and " " .. option[2] or "")
    local default = option.default and " (default " .. option.default .. ")" or ""
    lines[#lines + 1] = string.format("  %-26s %s%s", head, option[3], default)
  end
  if spec.after then lines[#lines + 1] = "\n" .. spec.after end
  return table.concat(lines, "\n") .. "\n"
end

local function check_arguments(values, arguments, secret)
  for i, argument in ipairs(arguments) do
    if not values[i] and not argument.optional then return argument[1] .. " is missing" end
  end
  local last = arguments[#arguments]
  if values[#arguments + 1] and not (last and last.many) then
    return (secret and "there" or "'" .. values[#arguments + 1] .. "'") .. " is one argument too many"
  end
end

--- Parse a command line.
---@param args string[]
---@param spec lib.CommandLine
---@return table<string|integer, any>? values by name; value.help is true when it was asked for
---@return string? problem for exit code 2
function M.parse(args, spec)
  local by_name, values = {}, {}
  for _, option in ipairs(spec.options) do by_name[option[1]] = option end
  local i = 1
  while i <= #args do
    local arg = args[i]
    if arg == "--help" or arg == "-h" then return { help = true } end
    local name, value = arg:match("^%-%-([%w-]+)=?(.*)$")
    if not name and arg:find("^%-.") then return nil, "'" .. arg .. "' is no option" end
    local option = by_name[name]
    if name and not option then return nil, "there is no option --" .. name end
    if not name then
      value = arg
    elseif not option[2] then
      if arg:find("=", 1, true) then return nil, "--" .. name .. " takes no value" end
      value = true
    elseif not arg:find("=", 1, true) then
      i = i + 1
      value = args[i]
      if value == nil then return nil, "--" .. name .. " wants " .. option[2] end
    end
    if not name then
      values[#values + 1] = value
    elseif option.many then
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
  local problem = check_arguments(values, spec.arguments or {}, spec.secret)
  if problem then return nil, problem end
  return values
end

--- Parse the arguments of a command; what the command must do instead of its work is done here: the
--- help is printed, a mistake is said.
---@param name string of the command, for messages
---@param args string[]
---@param spec lib.CommandLine
---@return table<string|integer, any>? values
---@return integer? code to exit with when there are no values
function M.read(name, args, spec)
  local values, problem = M.parse(args, spec)
  if not values then
    io.stderr:write("kontor ", name, ": ", problem, "\n", M.help(spec))
    return nil, 2
  elseif values.help then
    io.stdout:write(M.help(spec))
    return nil, 0
  end
  return values
end

--- The same for a command of several verbs (`kontor key create …`).
---@param name string
---@param args string[]
---@param verbs { [1]: string, [2]: lib.CommandLine }[]
---@return string? verb
---@return table<string|integer, any>|integer values, or the code to exit with
function M.verb(name, args, verbs)
  local helps = {}
  for i, entry in ipairs(verbs) do
    if entry[1] == args[1] then
      local values, code = M.read(name .. " " .. args[1], { unpack(args, 2) }, entry[2])
      return values and args[1] or nil, values or code
    end
    helps[i] = M.help(entry[2])
  end
  local asked = args[1] == "--help" or args[1] == "-h"
  local to = asked and io.stdout or io.stderr
  if not asked then
    to:write("kontor ", name, ": ", args[1] and "there is no '" .. args[1] .. "'" or "what?", "\n")
  end
  to:write(table.concat(helps, "\n"))
  return nil, asked and 0 or 2
end

return M
