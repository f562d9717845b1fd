--- What compiled templates call while they render. Runs in the script VM under its budgets.
local errors = require "template.errors"
local filters = require "template.filters"
local text = require "template.text"
local values = require "template.values"

local M = {}

local MAX_INCLUDES = 20 -- nested
local MAX_RANGE = 100000

local R = { null = values.null, text = values.text, truthy = values.truthy, list = nil }

function R.list(items)
  items.n = nil
  return values.list(items)
end

function R.dict(pairs_list, pos)
  local map = {}
  for _, pair in ipairs(pairs_list) do
    local key = pair[1]
    if type(key) ~= "string" and type(key) ~= "number" then
      errors.raise(pos, "a key of a map is a string or a number, not " .. values.type_name(key))
    end
    map[key] = pair[2]
  end
  return map
end

-- Scopes: tables that look into their parent; STRICT travels the same way.
local STRICT = {}

function R.scope(parent)
  return setmetatable({}, { __index = parent })
end

function R.set(scope, name, value)
  scope[name] = value
end

function R.unpack(scope, names, value, pos)
  local items = values.iterate(values.defined(value, pos, true), pos)
  if #items ~= #names then
    errors.raise(pos, ("cannot unpack %d values into %d names"):format(#items, #names))
  end
  for i, name in ipairs(names) do
    scope[name] = items[i]
  end
end

local Namespace = {}

function R.set_in_namespace(scope, name, key, value, pos)
  local namespace = scope[name]
  if type(namespace) ~= "table" or getmetatable(namespace) ~= Namespace then
    errors.raise(pos, "cannot assign an attribute of '" .. name .. "': it is no namespace")
  end
  namespace[key] = value
end

function R.name(scope, name, pos)
  local value = scope[name]
  if value == nil then
    return values.undefined("'" .. name .. "' is undefined", scope[STRICT], pos)
  end
  return value
end

--- The value of an inline `if` whose test is false and that has no `else`.
function R.no_else(scope)
  return values.undefined("the inline if is false and has no else", scope[STRICT])
end

local function missing(object, key, pos)
  local what
  if values.is_list(object) then
    what = "list object has no element " .. values.text(key)
  else
    what = ("'%s object' has no attribute '%s'"):format(values.type_name(object), values.text(key))
  end
  return values.undefined(what, true, pos)
end

function R.attribute(object, name, pos)
  values.defined(object, pos, true)
  local value = values.get(object, name)
  if value == nil then
    return missing(object, name, pos)
  end
  return value
end

function R.item(object, key, pos)
  values.defined(object, pos, true)
  values.defined(key, pos, true)
  local value = values.get(object, key)
  if value == nil then
    return missing(object, key, pos)
  end
  return value
end

function R.slice(object, from, to, step, pos)
  values.defined(object, pos, true)
  local is_string = type(object) == "string"
  if not is_string and not values.is_list(object) and not (type(object) == "table" and next(object) == nil) then
    errors.raise(pos, ("'%s' object cannot be sliced"):format(values.type_name(object)))
  end
  local items = is_string and values.chars(object) or object
  local n = #items
  local function index(v, fallback, low, high)
    if v == nil or v == values.null then return fallback end
    if type(v) ~= "number" or v % 1 ~= 0 then errors.raise(pos, "slice indices must be integers") end
    if v < 0 then v = v + n end
    return math.max(low, math.min(v, high))
  end
  step = step ~= nil and step ~= values.null and step or 1
  if type(step) ~= "number" or step % 1 ~= 0 or step == 0 then
    errors.raise(pos, "slice step must be a non-zero integer")
  end
  local out = values.list()
  if step > 0 then
    for i = index(from, 0, 0, n), index(to, n, 0, n) - 1, step do out[#out + 1] = items[i + 1] end
  else
    for i = index(from, n - 1, -1, n - 1), index(to, -1, -1, n - 1) + 1, step do out[#out + 1] = items[i + 1] end
  end
  return is_string and table.concat(out) or out
end

local function number_operands(a, b, op, pos)
  values.defined(a, pos, true)
  values.defined(b, pos, true)
  if type(a) ~= "number" or type(b) ~= "number" then
    errors.raise(pos, ("unsupported operand types for %s: '%s' and '%s'"):format(
      op, values.type_name(a), values.type_name(b)))
  end
end

local OPERATE = {
  ["+"] = function(a, b, pos)
    if type(a) == "string" and type(b) == "string" then
      return a .. b
    elseif values.is_list(a) and values.is_list(b) then
      local out = values.list()
      for _, item in ipairs(a) do out[#out + 1] = item end
      for _, item in ipairs(b) do out[#out + 1] = item end
      return out
    end
    number_operands(a, b, "+", pos)
    return a + b
  end,
  ["-"] = function(a, b, pos) number_operands(a, b, "-", pos) return a - b end,
  ["*"] = function(a, b, pos)
    if type(a) == "string" and type(b) == "number" and b % 1 == 0 then
      return a:rep(math.max(0, b))
    end
    number_operands(a, b, "*", pos)
    return a * b
  end,
  ["/"] = function(a, b, pos)
    number_operands(a, b, "/", pos)
    if b == 0 then errors.raise(pos, "division by zero") end
    return a / b
  end,
  ["//"] = function(a, b, pos)
    number_operands(a, b, "//", pos)
    if b == 0 then errors.raise(pos, "division by zero") end
    return math.floor(a / b)
  end,
  ["%"] = function(a, b, pos)
    if type(a) == "string" then
      return text.format(a, values.is_list(b) and setmetatable({ n = #b }, { __index = b }) or { n = 1, b }, pos)
    end
    number_operands(a, b, "%", pos)
    if b == 0 then errors.raise(pos, "modulo by zero") end
    return a % b
  end,
  ["**"] = function(a, b, pos) number_operands(a, b, "**", pos) return a ^ b end,
  ["~"] = function(a, b, pos) return values.text(a, pos) .. values.text(b, pos) end,
}

--- first, then triples of operator, position, operand; from the left.
function R.chain(first, ...)
  local result = first
  for i = 1, select("#", ...), 3 do
    local op, pos, operand = select(i, ...)
    result = OPERATE[op](result, operand, pos)
  end
  return result
end

function R.unary(op, operand, pos)
  values.defined(operand, pos, true)
  if type(operand) ~= "number" then
    errors.raise(pos, ("bad operand type for unary %s: '%s'"):format(op, values.type_name(operand)))
  end
  return op == "-" and -operand or operand
end

local COMPARE = {
  ["=="] = function(a, b, pos) values.defined(a, pos) values.defined(b, pos) return values.equal(a, b) end,
  ["!="] = function(a, b, pos) values.defined(a, pos) values.defined(b, pos) return not values.equal(a, b) end,
  ["<"] = function(a, b, pos) return values.less(a, b, pos, "<") end,
  [">"] = function(a, b, pos) return values.less(b, a, pos, ">") end,
  ["<="] = function(a, b, pos) return not values.less(b, a, pos, "<=") end,
  [">="] = function(a, b, pos) return not values.less(a, b, pos, ">=") end,
  ["in"] = function(a, b, pos) values.defined(a, pos) return values.contains(b, a, pos) end,
  ["not in"] = function(a, b, pos) values.defined(a, pos) return not values.contains(b, a, pos) end,
}

function R.compare(pos, first, ...)
  local left = first
  for i = 1, select("#", ...), 2 do
    local op, operand = select(i, ...)
    local right = operand()
    if not COMPARE[op](left, right, pos) then
      return false
    end
    left = right
  end
  return true
end

function R.logical(op, pos, ...)
  local n, value = select("#", ...), nil
  for i = 1, n do
    value = (select(i, ...))()
    if i < n and values.truthy(value, pos) == (op == "or") then
      return value
    end
  end
  return value
end

function R.cond(test, pos, yes, no)
  if values.truthy(test, pos) then
    return yes()
  end
  return no()
end

function R.filter(name, value, pos, args, named)
  return filters.apply(name, value, args, named, pos)
end

function R.test(name, value, pos, args, named)
  return filters.test(name, value, args, named, pos)
end

-- Loops ---------------------------------------------------------------------------------------

local Loop = {}
Loop.__index = Loop

function R.loop(iterable, scope, pos)
  local items = values.iterate(iterable, pos)
  return setmetatable({ items = items, n = #items, scope = scope }, Loop)
end

function Loop:filter(keep)
  local kept = {}
  for _, item in ipairs(self.items) do
    if keep(item, R.scope(self.scope)) then
      kept[#kept + 1] = item
    end
  end
  self.items, self.n = kept, #kept
end

--- The scope of round i, with its `loop`.
function Loop:enter(i)
  local items, n = self.items, self.n
  local scope = R.scope(self.scope)
  scope.loop = {
    index = i, index0 = i - 1, revindex = n - i + 1, revindex0 = n - i, length = n,
    first = i == 1, last = i == n, previtem = items[i - 1], nextitem = items[i + 1],
    depth = 1, depth0 = 0, -- they count recursive loops, which there are none of
    cycle = function(args)
      return args[(i - 1) % args.n + 1]
    end,
    changed = function(args)
      local before = self.before
      self.before = values.list(args)
      return before == nil or not values.equal(before, self.before)
    end,
  }
  return scope
end

-- Calls ---------------------------------------------------------------------------------------

local GLOBALS = {}

function GLOBALS.range(args, _, pos)
  local from, to, step = args[1], args[2], args[3] or 1
  if args.n == 1 then from, to = 0, args[1] end
  if args.n < 1 or args.n > 3 or type(from) ~= "number" or type(to) ~= "number" or type(step) ~= "number" or step == 0 then
    errors.raise(pos, "range takes one to three numbers, the step not 0")
  end
  if math.abs((to - from) / step) > MAX_RANGE then
    errors.raise(pos, ("range has more than %d numbers"):format(MAX_RANGE))
  end
  local out = values.list()
  for i = from, to + (step > 0 and -1 or 1), step do out[#out + 1] = i end
  return out
end

function GLOBALS.dict(_, named)
  return named
end

function GLOBALS.namespace(_, named)
  return setmetatable(named, Namespace)
end

function R.call(scope, name, pos, args, named)
  local value = scope[name]
  local callee = type(value) == "function" and value or value == nil and GLOBALS[name]
  if not callee then
    errors.raise(pos, value == nil and "'" .. name .. "' is undefined"
      or ("'%s' is not callable"):format(values.type_name(value)))
  end
  return callee(args, named, pos)
end

local function check_arguments(name, args, least, most, pos)
  if args.n < least or args.n > most then
    errors.raise(pos, ("%s() takes %d to %d arguments, got %d"):format(name, least, most, args.n))
  end
end

local function argument(kind, name, args, i, pos)
  return values.argument(args[i], kind, ("argument %d of %s()"):format(i, name), pos)
end

local function string_argument(name, args, i, pos)
  return argument("string", name, args, i, pos)
end

--- An argument that may be left out or none.
local function optional(kind, name, args, i, pos)
  if args[i] == nil or args[i] == values.null then return nil end
  return argument(kind, name, args, i, pos)
end

local function strip(name, sides)
  return { 0, 1, function(s, args, pos) return text.strip(s, optional("string", name, args, 1, pos), sides) end }
end

local STRING_METHODS = {
  upper = { 0, 0, text.upper }, lower = { 0, 0, text.lower },
  title = { 0, 0, text.title }, capitalize = { 0, 0, text.capitalize },
  strip = strip("strip", "lr"), lstrip = strip("lstrip", "l"), rstrip = strip("rstrip", "r"),
  split = { 0, 2, function(s, args, pos)
    return text.split(s, optional("string", "split", args, 1, pos), optional("integer", "split", args, 2, pos), pos)
  end },
  splitlines = { 0, 0, function(s, _, pos) return text.split((s:gsub("\n$", "")), "\n", -1, pos) end },
  replace = { 2, 3, function(s, args, pos)
    return text.replace(s, string_argument("replace", args, 1, pos), string_argument("replace", args, 2, pos),
      optional("integer", "replace", args, 3, pos))
  end },
  startswith = { 1, 1, function(s, args, pos)
    local prefix = string_argument("startswith", args, 1, pos)
    return s:sub(1, #prefix) == prefix
  end },
  endswith = { 1, 1, function(s, args, pos)
    local suffix = string_argument("endswith", args, 1, pos)
    return suffix == "" or s:sub(-#suffix) == suffix
  end },
  join = { 1, 1, function(s, args, pos) return filters.apply("join", args[1], { n = 1, s }, {}, pos) end },
}

local MAP_METHODS = {
  keys = { 0, 0, values.keys },
  values = { 0, 0, function(map)
    local out = values.list()
    for i, key in ipairs(values.keys(map)) do out[i] = map[key] end
    return out
  end },
  items = { 0, 0, function(map, _, pos) return filters.apply("items", map, { n = 0 }, {}, pos) end },
  get = { 1, 2, function(map, args)
    local value = values.get(map, args[1])
    if value == nil then value = args[2] end
    if value == nil then return values.null end
    return value
  end },
}

function R.method(object, name, pos, args, named)
  values.defined(object, pos, true)
  local own = type(object) == "table" and not values.is_list(object) and object[name]
  if type(own) == "function" then
    return own(args, named, pos)
  end
  local methods = type(object) == "string" and STRING_METHODS or values.is_dict(object) and MAP_METHODS or {}
  local method = methods[name]
  if not method then
    errors.raise(pos, ("'%s object' has no method '%s'"):format(values.type_name(object), name))
  end
  check_arguments(name, args, method[1], method[2], pos)
  return method[3](object, args, pos)
end

-- Rendering -----------------------------------------------------------------------------------

--- Render one of a set of compiled templates.
---@param chunks table<string, function> id -> the loaded chunk (template/compiler.lua)
---@param id string
---@param variables table<string, any> JSON values
---@param strict boolean an undefined variable is an error
---@return string text  Raises a TemplateError.
function M.render(chunks, id, variables, strict)
  local depth = 0
  local function run(name, scope, out, include)
    local ok, err = pcall(chunks[name](R), scope, out, include)
    if not ok then
      error(errors.complete(err, name), 0)
    end
  end
  local function include(name, scope, ignore_missing, out, pos)
    if not chunks[name] then
      if ignore_missing then
        return
      end
      errors.raise(pos, "there is no prompt '" .. name .. "' to include")
    end
    if depth >= MAX_INCLUDES then
      errors.raise(pos, ("includes are nested more than %d levels"):format(MAX_INCLUDES))
    end
    depth = depth + 1
    run(name, R.scope(scope or { [STRICT] = strict }), out, include)
    depth = depth - 1
  end
  local out = {}
  local root = R.scope(variables)
  root[STRICT] = strict
  run(id, root, out, include)
  return table.concat(out)
end

return M
