--- The part of JSON Schema (2020-12) that is checked here, and no more: a keyword that is not in this
--- list is refused where a schema is given, so that nobody believes that it is checked.
---
---   type (one or several), enum, const, properties, required, additionalProperties, minProperties,
---   maxProperties, items, minItems, maxItems, uniqueItems, minLength, maxLength, minimum, maximum,
---   exclusiveMinimum, exclusiveMaximum, anyOf
---   and what says nothing about a value: title, description, default, examples, deprecated,
---   $schema, $comment
---
--- Not here: $ref, pattern, format, allOf, oneOf, not, if. The values are those of the door: json.null,
--- arrays marked with json.array_mt, integers beyond 2^53 as value.int64.

local json = require "json"
local value = require "value"

local M = {}

--- Errors that one check names.
M.ERRORS = 20

local null = json.null

local TYPES = { null = true, boolean = true, object = true, array = true, number = true, integer = true, string = true }

local function is_array(v)
  return type(v) == "table" and getmetatable(v) == json.array_mt
end

local function is_object(v)
  return type(v) == "table" and getmetatable(v) ~= json.array_mt
end

local function escape(key)
  return (tostring(key):gsub("~", "~0"):gsub("/", "~1"))
end

local function fail(errors, pointer, code, message)
  if #errors < M.ERRORS then
    errors[#errors + 1] = { pointer = pointer, code = code, message = message }
  end
end

local function equal(a, b)
  if a == b then
    return true
  end
  if type(a) ~= "table" or type(b) ~= "table" or is_array(a) ~= is_array(b) then
    return value.type(a) == "int64" and value.type(b) == "int64" and tostring(a) == tostring(b)
  end
  for k, v in pairs(a) do
    if not equal(v, b[k]) then
      return false
    end
  end
  for k in pairs(b) do
    if a[k] == nil then
      return false
    end
  end
  return true
end

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do
    keys[#keys + 1] = k
  end
  table.sort(keys)
  return keys
end

-- Is the schema itself one? Each keyword has a function(v, pointer, errors).

local check_schema

local function wants(fits, what)
  return function(v, pointer, errors)
    if not fits(v) then
      fail(errors, pointer, "type", "must be " .. what)
    end
  end
end

local count = wants(function(v)
  return type(v) == "number" and v >= 0 and v == math.floor(v)
end, "a whole number from 0")
local number = wants(function(v)
  return type(v) == "number"
end, "a number")
local text = wants(function(v)
  return type(v) == "string"
end, "a string")
local anything = function() end

local function list_of_schemas(v, pointer, errors)
  if not is_array(v) or #v == 0 then
    return fail(errors, pointer, "type", "must be a list of schemas")
  end
  for i, s in ipairs(v) do
    check_schema(s, pointer .. "/" .. (i - 1), errors)
  end
end

local KEYWORDS = {
  title = text, description = text, default = anything, examples = anything, deprecated = anything,
  ["$schema"] = text, ["$comment"] = text,
  const = anything,
  enum = wants(function(v)
    return is_array(v) and #v > 0
  end, "a list with at least one value"),
  type = function(v, pointer, errors)
    for i, name in ipairs(is_array(v) and v or { v }) do
      if type(name) ~= "string" or not TYPES[name] then
        fail(errors, is_array(v) and pointer .. "/" .. (i - 1) or pointer, "enum",
          "must be one of: array, boolean, integer, null, number, object, string")
      end
    end
  end,
  properties = function(v, pointer, errors)
    if not is_object(v) then
      return fail(errors, pointer, "type", "must be an object of schemas")
    end
    for _, name in ipairs(sorted_keys(v)) do
      check_schema(v[name], pointer .. "/" .. escape(name), errors)
    end
  end,
  required = function(v, pointer, errors)
    if not is_array(v) then
      return fail(errors, pointer, "type", "must be a list of names")
    end
    for i, name in ipairs(v) do
      text(name, pointer .. "/" .. (i - 1), errors)
    end
  end,
  additionalProperties = function(v, pointer, errors)
    if type(v) ~= "boolean" then
      check_schema(v, pointer, errors)
    end
  end,
  items = function(v, pointer, errors)
    check_schema(v, pointer, errors)
  end,
  anyOf = list_of_schemas,
  uniqueItems = wants(function(v)
    return type(v) == "boolean"
  end, "true or false"),
  minItems = count, maxItems = count, minLength = count, maxLength = count, minProperties = count,
  maxProperties = count, minimum = number, maximum = number, exclusiveMinimum = number, exclusiveMaximum = number,
}

function check_schema(schema, pointer, errors)
  if not is_object(schema) then
    return fail(errors, pointer, "type", "must be a JSON Schema, an object")
  end
  for _, name in ipairs(sorted_keys(schema)) do
    local keyword = KEYWORDS[name]
    if keyword then
      keyword(schema[name], pointer .. "/" .. escape(name), errors)
    else
      fail(errors, pointer .. "/" .. escape(name), "unknown_field", "this keyword is not checked by this service")
    end
  end
end

--- Is this a schema of the part above?
---@param schema any decoded JSON
---@param pointer string where it stands
---@param errors kontor.FieldError[] what is wrong is added, with its pointer
function M.check_schema(schema, pointer, errors)
  check_schema(schema, pointer, errors)
end

-- Does a value fit?

local check

local function type_of(v)
  if v == null then
    return "null"
  elseif type(v) == "table" then
    return is_array(v) and "array" or "object"
  elseif value.type(v) == "int64" then
    return "integer"
  elseif type(v) == "number" then
    return v == math.floor(v) and v - v == 0 and "integer" or "number"
  end
  return type(v)
end

local function has_type(kind, wanted)
  return kind == wanted or kind == "integer" and wanted == "number"
end

local function characters(s)
  local _, continuation = s:gsub("[\128-\191]", "")
  return #s - continuation
end

local function check_number(schema, v, pointer, errors)
  local n = tonumber(type(v) == "number" and v or tostring(v))
  if schema.minimum and n < schema.minimum then
    fail(errors, pointer, "min", ("must be at least %.14g"):format(schema.minimum))
  elseif schema.exclusiveMinimum and n <= schema.exclusiveMinimum then
    fail(errors, pointer, "min", ("must be more than %.14g"):format(schema.exclusiveMinimum))
  end
  if schema.maximum and n > schema.maximum then
    fail(errors, pointer, "max", ("must be at most %.14g"):format(schema.maximum))
  elseif schema.exclusiveMaximum and n >= schema.exclusiveMaximum then
    fail(errors, pointer, "max", ("must be less than %.14g"):format(schema.exclusiveMaximum))
  end
end

local function check_size(n, low, high, what, pointer, errors)
  if low and n < low then
    fail(errors, pointer, "length", ("must have at least %d %s"):format(low, what))
  elseif high and n > high then
    fail(errors, pointer, "length", ("must have at most %d %s"):format(high, what))
  end
end

local function check_array(schema, v, pointer, errors)
  check_size(#v, schema.minItems, schema.maxItems, "items", pointer, errors)
  local seen = {}
  for i = 1, #v do
    local at = pointer .. "/" .. (i - 1)
    if schema.items then
      check(schema.items, v[i], at, errors)
    end
    if schema.uniqueItems then
      local key = value.hash(value.encode(v[i]))
      if seen[key] then
        fail(errors, at, "duplicate", "is there twice")
      end
      seen[key] = true
    end
  end
end

local function check_object(schema, v, pointer, errors)
  for _, name in ipairs(schema.required or {}) do
    if v[name] == nil then
      fail(errors, pointer .. "/" .. escape(name), "required", "is required")
    end
  end
  local keys, properties, more = sorted_keys(v), schema.properties or {}, schema.additionalProperties
  check_size(#keys, schema.minProperties, schema.maxProperties, "properties", pointer, errors)
  for _, name in ipairs(keys) do
    local at = pointer .. "/" .. escape(name)
    if properties[name] then
      check(properties[name], v[name], at, errors)
    elseif more == false then
      fail(errors, at, "unknown_field", "is not a property here")
    elseif type(more) == "table" then
      check(more, v[name], at, errors)
    end
  end
end

local function one_of(list, v)
  for _, x in ipairs(list) do
    if equal(x, v) then
      return true
    end
  end
  return false
end

function check(schema, v, pointer, errors)
  local kind = type_of(v)
  if schema.type then
    local fits, names = false, is_array(schema.type) and schema.type or { schema.type }
    for _, name in ipairs(names) do
      fits = fits or has_type(kind, name)
    end
    if not fits then
      return fail(errors, pointer, "type", ("must be of type %s, not %s"):format(table.concat(names, " or "), kind))
    end
  end
  if schema.enum and not one_of(schema.enum, v) then
    return fail(errors, pointer, "enum", "must be one of: " .. json.encode(schema.enum):sub(2, -2))
  end
  if schema.const ~= nil and not equal(schema.const, v) then
    return fail(errors, pointer, "enum", "must be " .. json.encode(schema.const))
  end
  if schema.anyOf then
    local fits = false
    for _, one in ipairs(schema.anyOf) do
      local inner = {}
      check(one, v, pointer, inner)
      fits = fits or #inner == 0
    end
    if not fits then
      fail(errors, pointer, "invalid", "fits none of the schemas of anyOf")
    end
  end
  if kind == "string" then
    check_size(characters(v), schema.minLength, schema.maxLength, "characters", pointer, errors)
  elseif kind == "integer" or kind == "number" then
    check_number(schema, v, pointer, errors)
  elseif kind == "array" then
    check_array(schema, v, pointer, errors)
  elseif kind == "object" then
    check_object(schema, v, pointer, errors)
  end
end

--- Does a value fit a schema that check_schema has passed?
---@param schema table
---@param v any
---@return kontor.FieldError[] errors at most M.ERRORS, none when it fits
function M.check(schema, v)
  local errors = {}
  check(schema, v, "", errors)
  return errors
end

return M
