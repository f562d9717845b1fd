--- Completion: what may follow the text before the cursor.
local commands = require "cli.console.commands"

local M = {}

local WIDTH, SHOWN = 96, 60
local STATUSES = { "created", "delayed", "queued", "running", "waiting", "completed", "failed", "cancelled", "timed_out" }
local LEVELS = { "debug", "info", "warn", "error", "default" }
local lua = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true until while "
  .. "assert error getmetatable ipairs load next pairs pcall rawequal rawget rawset select setmetatable tonumber tostring "
  .. "type unpack xpcall math.floor math.max math.min math.abs string.format string.find string.match string.gsub "
  .. "string.gmatch string.sub table.concat table.insert table.remove table.sort"):gmatch("%S+") do
  lua[#lua + 1] = word
end

local function command_names()
  local list = {}
  for i, command in ipairs(commands.list) do list[i] = command.name end
  return list
end

-- An execution is named by its whole id or by its hexadecimal part.
local function executions(state, word)
  local list = {}
  for i, id in ipairs(state.words.executions or {}) do
    list[i] = word:find("^exec?_?") and id or id:match("_(%x+)$")
  end
  return word == "" and state.words.executions or list
end

-- Candidates and the word that they complete, and what ends a complete one.
local function candidates(state, text)
  local mark, head = text:match("^%s*([:.])(%a*)$")
  if mark then return command_names(), head, " " end
  local name, rest = text:match("^%s*[:.](%a+)%s+(.*)$")
  if name then
    local command = commands.find(name)
    local first, second = rest:match("^(%S*)%s*(.*)$")
    local beyond = rest:find("%s") ~= nil
    local word = beyond and second or first
    local kind = command and command.complete
    if beyond and kind ~= "projects" or not kind then return {}, word, "" end
    if beyond then return state.words.agents or {}, word, " " end
    if kind == "executions" then return executions(state, word), word, " " end
    if kind == "commands" then return command_names(), word, "" end
    return kind == "statuses" and STATUSES or kind == "levels" and LEVELS or state.words.projects or {}, word, " "
  end
  local word = text:match("[%w_.]*$")
  if word:find("^exec_") then return state.words.executions or {}, word, "" end
  if word == "" then return {}, "", "" end
  local all = {}
  for _, list in ipairs { state.words.names or {}, state.words.globals or {}, lua } do
    for _, one in ipairs(list) do all[#all + 1] = one end
  end
  return all, word, ""
end

--- What to insert, and what to show when there is more than one way.
---@param state cli.console.State
---@param text string before the cursor
---@return string? insert, string? show
function M.complete(state, text)
  local all, word, after = candidates(state, text)
  local seen, fit = {}, {}
  for _, one in ipairs(all) do
    if one:sub(1, #word) == word and not seen[one] then
      seen[one] = true
      fit[#fit + 1] = one
    end
  end
  if #fit == 0 then return nil end
  if #fit == 1 then return fit[1]:sub(#word + 1) .. after end
  table.sort(fit)
  local common = fit[1]
  for _, one in ipairs(fit) do
    while one:sub(1, #common) ~= common do common = common:sub(1, -2) end
  end
  if #common > #word then return common:sub(#word + 1) end
  local lines, at = { "" }, 0
  for i, one in ipairs(fit) do
    if i > SHOWN then
      lines[#lines + 1] = ("… %d more"):format(#fit - SHOWN)
      break
    end
    if at > 0 and at + #one + 2 > WIDTH then
      lines[#lines + 1], at = "", 0
    end
    lines[#lines] = lines[#lines] .. (at > 0 and "  " or "") .. one
    at = at + #one + 2
  end
  return nil, table.concat(lines, "\n")
end

return M
