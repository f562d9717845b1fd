--- Text helpers of filters and string methods: case, splitting, %-formatting. UTF-8 aware where
--- the alphabets of Europe need it (Latin-1, Latin Extended-A, Greek, Cyrillic).
local errors = require "template.errors"
local lexer = require "template.lexer"
local values = require "template.values"

local M = {}

local UPPER, LOWER = {}, {}

local function pair(lower, upper)
  local l, u = lexer.utf8_char(lower), lexer.utf8_char(upper)
  UPPER[l], LOWER[u] = u, l
end
for code = 0xE0, 0xFE do
  if code ~= 0xF7 then pair(code, code - 0x20) end
end
for code = 0x100, 0x136, 2 do pair(code + 1, code) end
for code = 0x139, 0x147, 2 do pair(code + 1, code) end
for code = 0x14A, 0x176, 2 do pair(code + 1, code) end
for code = 0x179, 0x17D, 2 do pair(code + 1, code) end
for code = 0x3B1, 0x3C9 do
  if code ~= 0x3C2 then pair(code, code - 0x20) end
end
for code = 0x430, 0x44F do pair(code, code - 0x20) end
for code = 0x450, 0x45F do pair(code, code - 0x50) end
UPPER["ß"], UPPER["ÿ"] = "SS", "Ÿ"
LOWER["Ÿ"], LOWER["İ"], UPPER["ı"] = "ÿ", "i̇", "I"

local function map_case(s, ascii, table_of)
  s = ascii(s)
  if not s:find("[\128-\255]") then
    return s
  end
  return (s:gsub("[\192-\255][\128-\191]*", table_of))
end

function M.upper(s) return map_case(s, string.upper, UPPER) end
function M.lower(s) return map_case(s, string.lower, LOWER) end

function M.capitalize(s)
  local first = s:match("^[%z\1-\127\192-\255][\128-\191]*") or ""
  return M.upper(first) .. M.lower(s:sub(#first + 1))
end

--- Words begin after white space and after - ( { [ <, as in Jinja2's filter.
function M.title(s)
  local out, at = {}, 1
  while at <= #s do
    local word = s:match("^[^%s%-%(%{%[<]+", at)
    if word then
      out[#out + 1] = M.capitalize(word)
      at = at + #word
    else
      local sep = s:match("^[%s%-%(%{%[<]+", at)
      out[#out + 1] = sep
      at = at + #sep
    end
  end
  return table.concat(out)
end

--- Split by a separator, or (nil) by white space; at most `limit` cuts when it is not negative.
function M.split(s, separator, limit, pos)
  local out = values.list()
  limit = limit and limit >= 0 and limit or math.huge
  if separator == nil or separator == values.null then
    s = s:gsub("^%s+", "")
    while s ~= "" do
      local from, to = s:find("%s+")
      if not from or #out >= limit then
        out[#out + 1] = #out >= limit and s or (s:gsub("%s+$", ""))
        break
      end
      out[#out + 1] = s:sub(1, from - 1)
      s = s:sub(to + 1)
    end
    return out
  elseif separator == "" then
    errors.raise(pos, "empty separator")
  end
  local at = 1
  while true do
    local from, to = s:find(separator, at, true)
    if not from or #out >= limit then
      out[#out + 1] = s:sub(at)
      return out
    end
    out[#out + 1] = s:sub(at, from - 1)
    at = to + 1
  end
end

--- Replace `from` by `to`, all or the first `count` times.
function M.replace(s, from, to, count)
  count = count and count >= 0 and count or math.huge
  if from == "" then
    local out, n = {}, 0
    for _, c in ipairs(values.chars(s)) do
      out[#out + 1] = n < count and to .. c or c
      n = n + 1
    end
    return table.concat(out) .. (n < count and to or "")
  end
  local out, at, n = {}, 1, 0
  while n < count do
    local first, last = s:find(from, at, true)
    if not first then break end
    out[#out + 1] = s:sub(at, first - 1)
    out[#out + 1] = to
    at, n = last + 1, n + 1
  end
  out[#out + 1] = s:sub(at)
  return table.concat(out)
end

--- Strip white space or the characters of `set` at the ends that `sides` names ("l", "r", "lr").
function M.strip(s, set, sides)
  local chars, stripped = values.chars(s), nil
  if set and set ~= values.null then
    stripped = {}
    for _, c in ipairs(values.chars(set)) do stripped[c] = true end
  end
  local function goes(c)
    if stripped then return stripped[c] end
    return c:find("^%s$")
  end
  local first, last = 1, #chars
  while sides:find("l", 1, true) and first <= last and goes(chars[first]) do first = first + 1 end
  while sides:find("r", 1, true) and first <= last and goes(chars[last]) do last = last - 1 end
  return table.concat(chars, "", first, last)
end

--- Python's old formatting: "%s %05.2f %%" % args.
function M.format(template, args, pos)
  local used = 0
  local out = template:gsub("%%([-+ 0#]*)(%d*)(%.?%d*)([%a%%]?)", function(flags, width, precision, kind)
    if kind == "%" then
      return "%"
    end
    if (tonumber(width) or 0) > 1000 or (tonumber(precision:sub(2)) or 0) > 99 then
      errors.raise(pos, "a format is too wide")
    end
    used = used + 1
    local arg = args[used]
    if arg == nil then
      errors.raise(pos, "not enough arguments for format string")
    end
    if kind == "s" or kind == "r" then
      local text = kind == "r" and values.repr(arg) or values.text(arg, pos)
      return (("%" .. flags:gsub("[0+ #]", "") .. width .. precision .. "s"):format(text))
    end
    if kind == "i" or kind == "u" then kind = "d" end
    if not kind:find("^[dfFeEgGxXoc]$") then
      errors.raise(pos, "unsupported format character '" .. kind .. "'")
    end
    local number = tonumber(arg)
    if type(arg) == "boolean" or not number then
      errors.raise(pos, ("%%%s format: a number is required, not %s"):format(kind, values.type_name(arg)))
    end
    if kind:find("[dxXoc]") then
      number = number >= 0 and math.floor(number) or math.ceil(number)
    end
    return ("%" .. flags .. width .. precision .. (kind == "F" and "f" or kind)):format(number)
  end)
  if used < args.n then
    errors.raise(pos, "not all arguments converted during string formatting")
  end
  return out
end

return M
