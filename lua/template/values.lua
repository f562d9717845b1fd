--- Values as a template sees them: Python's rules for truth, text, order and length over JSON
--- values. Runs in the script VM: nothing here but plain Lua.
---
--- Two differences to Jinja2, both from JSON: a number has no int/float distinction (an integral
--- one prints without fraction), and a map has no order of its own (its keys come sorted).
local errors = require "template.errors"
local json = require "json"

local M = {}

local null = json.null
M.null = null

local Undefined = {} -- metatable of undefined values

---@param what string  "'customer' is undefined", told when it is used
---@param strict boolean false: prints as nothing, is false, loops never
---@param pos integer|nil where it came from, told instead of where it is used
function M.undefined(what, strict, pos)
  return setmetatable({ what = what, strict = strict, pos = pos }, Undefined)
end

function M.is_undefined(v)
  return v == nil or (type(v) == "table" and getmetatable(v) == Undefined)
end

--- The value itself; raises for an undefined one when `always` or when it is strict.
function M.defined(v, pos, always)
  if type(v) == "table" and getmetatable(v) == Undefined and (always or v.strict) then
    errors.raise(v.pos or pos, v.what)
  end
  return v
end

---@return table list marked as array
function M.list(items)
  return setmetatable(items or {}, json.array_mt)
end

function M.is_list(v)
  return type(v) == "table" and getmetatable(v) ~= Undefined
    and (getmetatable(v) == json.array_mt or v[1] ~= nil)
end

function M.is_dict(v)
  return type(v) == "table" and getmetatable(v) ~= Undefined and not M.is_list(v)
end

--- Python's name of the type, for messages.
function M.type_name(v)
  local kind = type(v)
  if v == nil or v == null then return "none" end
  if kind == "string" then return "str" end
  if kind == "boolean" then return "bool" end
  if kind == "number" then return v % 1 == 0 and "int" or "float" end
  if M.is_undefined(v) then return "undefined" end
  if M.is_list(v) then return "list" end
  if kind == "table" then return "dict" end
  return kind
end

--- Characters (code points) of a string as a list.
function M.chars(s)
  local out = {}
  for c in s:gmatch("[%z\1-\127\192-\255][\128-\191]*") do
    out[#out + 1] = c
  end
  return out
end

function M.char_count(s)
  if not s:find("[\128-\255]") then
    return #s
  end
  local _, n = s:gsub("[^\128-\191]", "")
  return n
end

--- Keys of a map in their defined order: numbers, then strings by their bytes.
function M.keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then
      return type(a) == "number"
    end
    return a < b
  end)
  return M.list(keys)
end

--- What a `for` goes over: always a list.
function M.iterate(v, pos)
  M.defined(v, pos)
  if M.is_undefined(v) then
    return {}
  elseif M.is_list(v) then
    return v
  elseif type(v) == "table" then
    return M.keys(v)
  elseif type(v) == "string" then
    return M.chars(v)
  end
  errors.raise(pos, ("'%s' object is not iterable"):format(M.type_name(v)))
end

function M.length(v, pos)
  M.defined(v, pos)
  if type(v) == "string" then
    return M.char_count(v)
  elseif type(v) == "table" then
    return M.is_undefined(v) and 0 or #M.iterate(v, pos)
  end
  errors.raise(pos, ("object of type '%s' has no len()"):format(M.type_name(v)))
end

function M.truthy(v, pos)
  M.defined(v, pos)
  if v == nil or v == false or v == null or v == 0 or v == "" then
    return false
  elseif type(v) == "table" then
    return not M.is_undefined(v) and next(v) ~= nil
  end
  return true
end

--- A number as Python writes it; integral ones without fraction.
function M.number_text(n)
  if n ~= n then return "nan" end
  if n == math.huge then return "inf" end
  if n == -math.huge then return "-inf" end
  if n % 1 == 0 and math.abs(n) < 1e16 then
    return ("%.0f"):format(n)
  end
  local text
  for digits = 15, 17 do
    text = ("%." .. digits .. "g"):format(n)
    if tonumber(text) == n then break end
  end
  local mantissa, sign, exponent = text:match("^(.-)e([+-])0*(%d+)$")
  if not mantissa then
    return text
  end
  -- C changes to exponents below 1e-4 as Python does, but above 1e15 by its precision.
  return ("%se%s%02d"):format(mantissa, sign, tonumber(exponent))
end

local REPR_ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\" }

local function repr_string(s)
  local quote = s:find("'", 1, true) and not s:find('"', 1, true) and '"' or "'"
  return quote .. s:gsub("[%c\\\127" .. quote .. "]", function(c)
    return REPR_ESCAPES[c] or c == quote and "\\" .. c or ("\\x%02x"):format(c:byte())
  end) .. quote
end

--- Python's repr(): what lists and maps print.
function M.repr(v, depth)
  depth = depth or 1
  if depth > 64 then
    errors.raise(nil, "a value is nested more than 64 levels")
  end
  if type(v) == "string" then
    return repr_string(v)
  elseif type(v) ~= "table" then
    return M.text(v)
  elseif M.is_undefined(v) then
    return "Undefined"
  end
  local parts = {}
  if M.is_list(v) then
    for i, item in ipairs(v) do
      parts[i] = M.repr(item, depth + 1)
    end
    return "[" .. table.concat(parts, ", ") .. "]"
  end
  for i, key in ipairs(M.keys(v)) do
    parts[i] = M.repr(key, depth + 1) .. ": " .. M.repr(v[key], depth + 1)
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

--- Python's str(): what a template prints.
function M.text(v, pos)
  local kind = type(v)
  if kind == "string" then
    return v
  elseif kind == "number" then
    return M.number_text(v)
  elseif v == true then
    return "True"
  elseif v == false then
    return "False"
  elseif v == nil or v == null then
    return "None"
  elseif kind == "table" then
    if M.is_undefined(v) then
      M.defined(v, pos)
      return ""
    end
    return M.repr(v)
  elseif kind == "function" then
    return "<function>" -- without its address, which differs from run to run
  end
  return tostring(v) -- exact integers and instants
end

function M.equal(a, b, depth)
  if M.is_undefined(a) or M.is_undefined(b) then
    return M.is_undefined(a) and M.is_undefined(b)
  end
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  depth = depth or 1
  if depth > 64 or M.is_list(a) ~= M.is_list(b) then
    return false
  end
  for key, value in pairs(a) do
    if not M.equal(value, b[key], depth + 1) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

--- a < b by Python's rules; raises for things that have no order.
function M.less(a, b, pos, op)
  M.defined(a, pos, true)
  M.defined(b, pos, true)
  local kind = type(a)
  if kind == type(b) and (kind == "number" or kind == "string" or kind == "userdata" and a ~= null and b ~= null) then
    return a < b
  elseif kind == "boolean" and type(b) == "boolean" then
    return not a and b
  elseif M.is_list(a) and M.is_list(b) then
    for i = 1, math.min(#a, #b) do
      if not M.equal(a[i], b[i]) then
        return M.less(a[i], b[i], pos, op)
      end
    end
    return #a < #b
  end
  errors.raise(pos, ("'%s' not supported between '%s' and '%s'"):format(op or "<", M.type_name(a), M.type_name(b)))
end

function M.contains(container, item, pos)
  M.defined(container, pos, true)
  if type(container) == "string" then
    if type(item) ~= "string" then
      errors.raise(pos, ("'in <string>' requires string as left operand, not %s"):format(M.type_name(item)))
    end
    return container:find(item, 1, true) ~= nil
  elseif M.is_list(container) then
    for _, candidate in ipairs(container) do
      if M.equal(candidate, item) then
        return true
      end
    end
    return false
  elseif type(container) == "table" then
    return (type(item) == "string" or type(item) == "number") and container[item] ~= nil
  end
  errors.raise(pos, ("argument of type '%s' is not iterable"):format(M.type_name(container)))
end

--- obj.name or obj["name"], or nil.
function M.get(object, key)
  if M.is_list(object) then
    if type(key) == "number" and key % 1 == 0 then
      return object[key >= 0 and key + 1 or #object + 1 + key]
    end
    return nil
  elseif type(object) == "table" then
    if type(key) == "string" or type(key) == "number" then
      return object[key]
    end
    return nil
  elseif type(object) == "string" and type(key) == "number" and key % 1 == 0 then
    local chars = M.chars(object)
    return chars[key >= 0 and key + 1 or #chars + 1 + key]
  end
end

local KINDS = {
  string = function(v) return type(v) == "string" end,
  number = function(v) return type(v) == "number" end,
  integer = function(v) return type(v) == "number" and v % 1 == 0 end,
  ["string or number"] = function(v) return type(v) == "string" or type(v) == "number" end,
}

--- Check an argument that a template gives.
---@generic T
---@param v T
---@param kind "string"|"number"|"integer"|"string or number"
---@param what string names it in the error
---@param pos integer
---@return T v
function M.argument(v, kind, what, pos)
  if not KINDS[kind](v) then
    errors.raise(pos, ("%s must be %s %s, not %s"):format(what, kind == "integer" and "an" or "a", kind, M.type_name(v)))
  end
  return v
end

return M
