--- The filter `tojson`: JSON as Jinja2 writes it (Python's spacing, ASCII, sorted keys, safe inside
--- HTML), which the service's own encoder has no reason to know.
local errors = require "template.errors"
local values = require "template.values"

local MAX_DEPTH = 64

local ESCAPES = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f",
}

local function utf16(char)
  local b1, b2, b3, b4 = char:byte(1, 4)
  local code
  if b4 then
    code = ((b1 % 8 * 64 + b2 % 64) * 64 + b3 % 64) * 64 + b4 % 64 - 0x10000
    return ("\\u%04x\\u%04x"):format(0xD800 + math.floor(code / 1024), 0xDC00 + code % 1024)
  elseif b3 then
    code = (b1 % 16 * 64 + b2 % 64) * 64 + b3 % 64
  else
    code = b1 % 32 * 64 + b2 % 64
  end
  return ("\\u%04x"):format(code)
end

local function string_json(s)
  s = s:gsub("[%c\"\\<>&'\127]", function(c)
    return ESCAPES[c] or c == "\127" and c or ("\\u%04x"):format(c:byte())
  end)
  return '"' .. s:gsub("[\192-\255][\128-\191]+", utf16) .. '"'
end

local write -- forward

local function write_items(items, open, close, indent, depth)
  if #items == 0 then
    return open .. close
  elseif not indent then
    return open .. table.concat(items, ", ") .. close
  end
  local inner = "\n" .. (" "):rep(indent * depth)
  return open .. inner .. table.concat(items, "," .. inner) .. "\n" .. (" "):rep(indent * (depth - 1)) .. close
end

function write(v, indent, pos, depth)
  local kind = type(v)
  if v == nil or v == values.null then
    return "null"
  elseif kind == "string" then
    return string_json(v)
  elseif kind == "boolean" then
    return tostring(v)
  elseif kind == "number" then
    if v ~= v or v == math.huge or v == -math.huge then
      errors.raise(pos, "a number that is not finite is not JSON")
    end
    return values.number_text(v)
  elseif kind ~= "table" then
    return string_json(tostring(v))
  elseif depth > MAX_DEPTH then
    errors.raise(pos, ("a value is nested more than %d levels"):format(MAX_DEPTH))
  end
  values.defined(v, pos, true)
  local items = {}
  if values.is_list(v) then
    for i, item in ipairs(v) do
      items[i] = write(item, indent, pos, depth + 1)
    end
    return write_items(items, "[", "]", indent, depth)
  end
  for i, key in ipairs(values.keys(v)) do
    items[i] = string_json(values.text(key)) .. ": " .. write(v[key], indent, pos, depth + 1)
  end
  return write_items(items, "{", "}", indent, depth)
end

---@param v any
---@param indent integer|nil spaces a level
---@param pos integer for errors
---@return string
return function(v, indent, pos)
  return write(v, indent, pos, 1)
end
