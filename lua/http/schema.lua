-- What is done with a declared type: check a body (all its faults at once), turn it into the stored
-- form and back, compile the view that reads it, compare for PUT. Types are made in types.lua.
--
-- Forms of a document: *given* (decoded JSON of the client), *plain* (checked: defaults filled in,
-- still JSON types), *stored* (ts as value.date, *_usd as int64 *_nano, the id under `_id`).

local json = require "json"
local decimal = require "http.decimal"
local rfc3339 = require "http.rfc3339"
local value = require "value"

local M = {}

local null = json.null
local max_errors = 100
local max_int = 9007199254740992

local function is_array(t) return getmetatable(t) == json.array_mt end

local function type_name(v)
  if v == null then return "null" end
  if type(v) == "table" then return is_array(v) and "an array" or "an object" end
  if type(v) == "boolean" then return "a boolean" end
  if type(v) == "number" then return "a number" end
  if type(v) == "string" then return "a string" end
  return "a large integer" -- value.int64, the only other thing a JSON text can hold
end

-- ~ and / of a key in a JSON pointer
local function escape(key)
  return (key:gsub("~", "~0"):gsub("/", "~1"))
end

---Characters of a UTF-8 string.
local function characters(s)
  local _, continuation = s:gsub("[\128-\191]", "")
  return #s - continuation
end

local function fail(ctx, path, code, message)
  local errors = ctx.errors
  if #errors >= max_errors then return nil end
  local e = {code = code, message = message}
  e[ctx.where] = ctx.where == "pointer" and path or path:sub(2)
  errors[#errors + 1] = e
  return nil
end

local function clone(v)
  if type(v) ~= "table" then return v end
  local copy = {}
  for k, x in pairs(v) do copy[k] = clone(x) end
  return setmetatable(copy, getmetatable(v))
end
M.clone = clone

---@return integer levels of nesting of a decoded value
local function depth(v)
  if type(v) ~= "table" then return 0 end
  local deepest = 0
  for _, x in pairs(v) do deepest = math.max(deepest, depth(x)) end
  return deepest + 1
end

local check = {}

function check.str(ty, v, ctx, path)
  if type(v) ~= "string" then
    return fail(ctx, path, "type", "must be a string, not " .. type_name(v))
  end
  if v:find("\0", 1, true) then return fail(ctx, path, "format", "must not hold a NUL character") end
  if ty.enum then
    for _, x in ipairs(ty.enum) do if x == v then return v end end
    return fail(ctx, path, "enum", "must be one of: " .. table.concat(ty.enum, ", "))
  end
  if ty.max_bytes then
    if #v > ty.max_bytes then
      return fail(ctx, path, "length", "must have at most " .. ty.max_bytes .. " bytes")
    end
  else
    local n = characters(v)
    if n > ty.max then return fail(ctx, path, "length", "must have at most " .. ty.max .. " characters") end
    if n < (ty.min or 0) then return fail(ctx, path, "length", "must have at least " .. ty.min .. " characters") end
  end
  if ty.match and not ty.match(v) then
    return fail(ctx, path, "pattern", "must match " .. ty.pattern)
  end
  return v
end

local function range(ty, v, ctx, path)
  if ty.min and v < ty.min then return fail(ctx, path, "min", ("must be at least %.14g"):format(ty.min)) end
  if ty.max and v > ty.max then return fail(ctx, path, "max", ("must be at most %.14g"):format(ty.max)) end
  return v
end

function check.int(ty, v, ctx, path)
  if type(v) == "number" then
    if v ~= math.floor(v) then return fail(ctx, path, "type", "must be a whole number") end
    if v < -max_int or v > max_int then return fail(ctx, path, "max", "must be within 2^53") end
    return range(ty, v, ctx, path)
  end
  if type_name(v) == "a large integer" then return fail(ctx, path, "max", "must be within 2^53") end
  return fail(ctx, path, "type", "must be a whole number, not " .. type_name(v))
end

function check.num(ty, v, ctx, path)
  if type(v) ~= "number" then return fail(ctx, path, "type", "must be a number, not " .. type_name(v)) end
  return range(ty, v, ctx, path)
end

function check.bool(_, v, ctx, path)
  if type(v) ~= "boolean" then return fail(ctx, path, "type", "must be true or false, not " .. type_name(v)) end
  return v
end

function check.dec(_, v, ctx, path)
  if type(v) ~= "string" then
    return fail(ctx, path, "type", 'must be a decimal as string, as "12.50", not ' .. type_name(v))
  end
  if not decimal.valid(v) then return fail(ctx, path, "format", 'must be a decimal, as "12.50"') end
  return v
end

function check.usd(_, v, ctx, path)
  if not check.dec(nil, v, ctx, path) then return nil end
  local nano, why = decimal.to_nano(v)
  if not nano then return fail(ctx, path, "format", why) end
  if nano:sub(1, 1) == "-" then return fail(ctx, path, "min", "must be at least 0") end
  return decimal.from_nano(nano)
end

function check.ts(_, v, ctx, path)
  if type(v) ~= "string" then return fail(ctx, path, "type", "must be a time as string, not " .. type_name(v)) end
  local ms = rfc3339.parse(v)
  if not ms then return fail(ctx, path, "format", "must be a time as 2026-01-02T03:04:05.678Z") end
  return rfc3339.format(ms)
end

function check.date(_, v, ctx, path)
  if type(v) ~= "string" then return fail(ctx, path, "type", "must be a date as string, not " .. type_name(v)) end
  if not rfc3339.parse_date(v) then return fail(ctx, path, "format", "must be a date as 2026-01-02") end
  return v
end

function check.any(_, v) return v end

local function check_value(ty, v, ctx, path)
  return check[ty.kind](ty, v, ctx, path)
end

function check.map(ty, v, ctx, path)
  if type(v) ~= "table" or is_array(v) then
    return fail(ctx, path, "type", "must be " .. (ty.what or "an object") .. ", not " .. type_name(v))
  end
  if depth(v) > ty.max_depth then
    return fail(ctx, path, "max", "must be nested at most " .. ty.max_depth .. " levels deep")
  end
  local text = json.encode(v)
  if not text or #text > ty.max_bytes then
    return fail(ctx, path, "length", "must have at most " .. ty.max_bytes .. " bytes as JSON")
  end
  for _, f in ipairs(ty.fields or {}) do
    local x = v[f[1]]
    if x ~= nil and not (x == null and f.nullable) then
      check_value(f[2], x, ctx, path .. "/" .. escape(f[1]))
    end
  end
  return v
end

function check.list(ty, v, ctx, path)
  if type(v) ~= "table" or not is_array(v) then
    return fail(ctx, path, "type", "must be an array, not " .. type_name(v))
  end
  if #v > ty.max then return fail(ctx, path, "max", "must have at most " .. ty.max .. " items") end
  local out, seen = {}, {}
  for i = 1, #v do
    local at = path .. "/" .. (i - 1)
    out[i] = check_value(ty.item, v[i], ctx, at)
    if out[i] == nil then out[i] = null end
    if ty.unique then
      local key = type(out[i]) == "table" and ty.unique ~= true and out[i][ty.unique] or out[i]
      if key ~= null and seen[key] then fail(ctx, at, "duplicate", "is there twice") end
      seen[key] = true
    end
  end
  return json.array(out)
end

local function default_of(f, ctx)
  local d = f.default
  if type(d) == "function" then return d(ctx) end
  return clone(d)
end

function check.object(ty, v, ctx, path)
  if type(v) ~= "table" or is_array(v) then
    return fail(ctx, path, "type", "must be an object, not " .. type_name(v))
  end
  -- Sorted, so that the same body always gets the same answer.
  local unknown = {}
  for k in pairs(v) do if not ty.by_name[k] then unknown[#unknown + 1] = k end end
  table.sort(unknown)
  for _, k in ipairs(unknown) do
    fail(ctx, path .. "/" .. escape(k), "unknown_field", "is not a field here")
  end
  local out = {}
  for _, f in ipairs(ty.fields) do
    local name, x = f[1], v[f[1]]
    local at = path .. "/" .. escape(name)
    if f.ro then
      if x ~= nil then
        if ctx.mode == "replace" then ctx.repeated[#ctx.repeated + 1] = {name = name, given = x, at = at}
        else fail(ctx, at, "immutable", "is set by the service") end
      end
    elseif x == nil and f.immutable and ctx.mode == "replace" then
      out[name] = nil -- stays as it is
    elseif x == nil then
      if f.required then fail(ctx, at, "required", "is required")
      elseif f.default ~= nil then
        local d = default_of(f, ctx)
        -- A default object is checked too, so that its own defaults are filled in.
        if f[2].kind == "object" and d ~= null then d = check_value(f[2], d, ctx, at) end
        out[name] = d
      else out[name] = null end
    elseif x == null then
      if f.nullable then out[name] = null
      else fail(ctx, at, "type", "must not be null") end
    else
      out[name] = check_value(f[2], x, ctx, at)
    end
    if f.immutable and ctx.mode == "replace" and x ~= nil and path == "" then
      ctx.repeated[#ctx.repeated + 1] = {name = name, given = out[name] == nil and x or out[name], at = at}
    end
  end
  return out
end

---@class kontor.Checked
---@field errors kontor.FieldError[]
---@field repeated table[] ro and immutable fields that the body repeats: {name, given, at}

---Check a decoded body.
---@param ty kontor.Type
---@param v any decoded JSON
---@param mode "create"|"replace"
---@param more? table what defaults that are functions may want: {principal=}
---@return table|nil plain nil when there are errors
---@return kontor.Checked
function M.check(ty, v, mode, more)
  local ctx = {errors = {}, repeated = {}, mode = mode, where = "pointer"}
  for k, x in pairs(more or {}) do ctx[k] = x end
  local plain = check_value(ty, v, ctx, "")
  if #ctx.errors > 0 then return nil, ctx end
  return plain, ctx
end

-- Query parameters come as text.
local from_text = {
  int = function(s) return s:find("^-?%d+$") and #s <= 17 and tonumber(s) or nil end,
  num = function(s) return s:find("^-?%d+%.?%d*$") and tonumber(s) or nil end,
  bool = function(s) if s == "true" then return true elseif s == "false" then return false end end,
}
local text_type = {int = "must be a whole number", num = "must be a number", bool = "must be true or false"}

---Check query parameters.
---@param fields table[] as of an object
---@param given table<string,string[]> name to its values
---@return table plain absent parameters without a default are nil
---@return kontor.FieldError[] errors
function M.check_query(fields, given)
  if #fields == 0 and next(given) == nil then return {}, {} end
  local ctx = {errors = {}, where = "parameter"}
  local out, known = {}, {}
  for _, f in ipairs(fields) do
    local name, ty, values = f[1], f[2], given[f[1]]
    known[name] = true
    if not values then
      if f.required then fail(ctx, "/" .. name, "required", "is required") end
      out[name] = default_of(f, ctx)
    elseif #values > 1 then
      fail(ctx, "/" .. name, "duplicate", "is there twice")
    else
      local v = values[1]
      local convert = from_text[ty.kind]
      if convert then
        v = convert(v)
        if v == nil then fail(ctx, "/" .. name, "type", text_type[ty.kind]) end
      end
      if v ~= nil then out[name] = check_value(ty, v, ctx, "/" .. name) end
    end
  end
  local unknown = {}
  for name in pairs(given) do if not known[name] then unknown[#unknown + 1] = name end end
  table.sort(unknown)
  for _, name in ipairs(unknown) do
    fail(ctx, "/" .. name, "unknown_field", "is not a parameter here")
  end
  return out, ctx.errors
end

local function stored_name(f)
  return f[2].kind == "usd" and (f[1]:gsub("_usd$", "_nano")) or f[1]
end
M.stored_name = stored_name

local to_stored, to_plain

function to_stored(ty, v)
  if v == nil or v == null then return null end
  if ty.kind == "ts" then return value.date(rfc3339.parse(v)) end
  if ty.kind == "usd" then return value.int64(decimal.to_nano(v)) end
  if ty.kind == "list" then
    local out = {}
    for i = 1, #v do out[i] = to_stored(ty.item, v[i]) end
    return json.array(out)
  end
  if ty.kind == "object" then
    local out = {}
    for _, f in ipairs(ty.fields) do
      if v[f[1]] ~= nil then out[stored_name(f)] = to_stored(f[2], v[f[1]]) end
    end
    return out
  end
  return v
end

-- A text field: literals and names of fields by turns.
local function put_together(parts, v)
  local out = {}
  for i, p in ipairs(parts) do
    if i % 2 == 0 then p = v[p] end
    if type(p) ~= "string" then return null end
    out[i] = p
  end
  return table.concat(out)
end

function to_plain(ty, v)
  if v == nil or v == null then return null end
  if ty.kind == "ts" then return rfc3339.format(v.ms) end
  if ty.kind == "usd" then return decimal.from_nano(tostring(v)) end
  if ty.kind == "list" then
    local out = {}
    for i = 1, #v do out[i] = to_plain(ty.item, v[i]) end
    return json.array(out)
  end
  if ty.kind == "object" then
    local out, order = {}, {}
    for i, f in ipairs(ty.fields) do
      order[i] = f[1]
      if f.text then out[f[1]] = put_together(f.text, v)
      elseif f.derived then out[f[1]] = to_plain(f[2], v)
      else out[f[1]] = to_plain(f[2], v[f.from_id and "_id" or stored_name(f)]) end
    end
    return json.ordered(out, order)
  end
  return v
end

---Plain to stored form. The field with `from_id` becomes `_id`.
---@param ty kontor.Type an object
---@param plain table
---@return table
function M.to_stored(ty, plain)
  local out = to_stored(ty, plain)
  for _, f in ipairs(ty.fields) do
    if f.from_id then out._id, out[f[1]] = plain[f[1]], nil end
  end
  return out
end

---Stored form to what an answer shows: every field, in the declared order.
---@param ty kontor.Type an object
---@param stored table
---@return table
function M.to_plain(ty, stored) return to_plain(ty, stored) end

---JSON text of a stored document, for answers to writes. Reads use `view`.
function M.to_json(ty, stored) return json.encode(to_plain(ty, stored)) end

local function view_fields(ty)
  local list = {}
  for i, f in ipairs(ty.fields) do
    local inner = f[2].kind == "list" and f[2].item or f[2]
    list[i] = {f.from_id and "_id" or (f.text or f.derived) and "" or stored_name(f), f[1], text = f.text,
      as = f[2].kind == "usd" and "nano_usd" or nil, sub = inner.kind == "object" and M.view(inner) or nil}
  end
  return list
end

local views = setmetatable({}, {__mode = "k"})
---The compiled projection that reads a stored document as its answer, made once a type.
---@param ty kontor.Type an object
---@return userdata value.view
function M.view(ty)
  local v = views[ty]
  if not v then
    v = value.view(view_fields(ty))
    views[ty] = v
  end
  return v
end

---Equality of plain values; the order of keys does not matter.
local function equal(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for k, v in pairs(a) do if not equal(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end
M.equal = equal

---What a PUT repeats of ro and immutable fields must be what is there.
---@param checked kontor.Checked
---@param current table plain form of the present document
---@return kontor.FieldError[] errors
function M.check_repeated(checked, current)
  local errors = {}
  for _, r in ipairs(checked.repeated) do
    if not equal(r.given, current[r.name]) then
      errors[#errors + 1] = {pointer = r.at, code = "immutable",
        message = "cannot be changed; leave it out or repeat what is there"}
    end
  end
  return errors
end

---Differences of two plain documents for the audit log: [{pointer, from, to}], leaves of objects.
---@param a table|nil
---@param b table|nil
---@return table[]
function M.diff(a, b)
  local out = {}
  local function walk(x, y, path)
    if equal(x, y) then return end
    if type(x) == "table" and type(y) == "table" and x ~= null and y ~= null
      and not is_array(x) and not is_array(y) then
      local keys, seen = {}, {}
      for k in pairs(x) do keys[#keys + 1] = k; seen[k] = true end
      for k in pairs(y) do if not seen[k] then keys[#keys + 1] = k end end
      table.sort(keys)
      for _, k in ipairs(keys) do walk(x[k], y[k], path .. "/" .. escape(k)) end
    else
      out[#out + 1] = {pointer = path, from = x == nil and null or x, to = y == nil and null or y}
    end
  end
  walk(a or {}, b or {}, "")
  return out
end

return M
