--- Filters and tests of the template language: those of Jinja2 that make sense for text, under
--- the same names, arguments and results. Runs in the script VM.
local errors = require "template.errors"
local text = require "template.text"
local tojson = require "template.tojson"
local values = require "template.values"

local M = {}

local null = values.null
local REQUIRED = {}

--- name -> {params = {name, default, …}, fn} · variadic ones have no params and get (v, args, named, pos)
local FILTERS, TESTS = {}, {}

local function filter(name, params, fn)
  FILTERS[name] = { params = params, fn = fn }
end

--- What an argument must be, by the name that it has in all filters; others take any value. A default
--- is always good.
local KINDS = {
  attribute = "string or number", base = "integer", chars = "string", count = "integer", ["end"] = "string",
  indent = "integer", leeway = "integer", length = "integer", linecount = "integer", precision = "integer",
  start = "number", width = "string or number",
}

--- Positional and named arguments in the order of `params`.
local function bind(what, params, args, named, pos)
  local bound, count = {}, #params / 2
  if args.n > count then
    errors.raise(pos, ("%s takes at most %d arguments, got %d"):format(what, count, args.n))
  end
  for i = 1, count do
    local name, default = params[2 * i - 1], params[2 * i]
    local value = args[i]
    if value == nil then value = named[name] end
    if value == nil then
      if default == REQUIRED then
        errors.raise(pos, ("%s needs the argument '%s'"):format(what, name))
      end
      value = default
    end
    bound[i] = values.defined(value, pos, true)
    if KINDS[name] and value ~= default then
      values.argument(value, KINDS[name], ("the argument '%s' of %s"):format(name, what), pos)
    end
  end
  for name in pairs(named) do
    local known = false
    for i = 1, count do known = known or params[2 * i - 1] == name end
    if not known then
      errors.raise(pos, ("%s has no argument '%s'"):format(what, name))
    end
  end
  return unpack(bound, 1, count)
end

--- Apply a filter.
---@param name string a key of M.names
---@param value any
---@param args { n: integer }
---@param named table<string, any>
---@param pos integer
function M.apply(name, value, args, named, pos)
  local f = FILTERS[name]
  if not f then
    errors.raise(pos, "unknown filter '" .. tostring(name) .. "'")
  end
  if name ~= "default" and name ~= "d" then
    values.defined(value, pos)
  end
  if not f.params then
    return f.fn(value, args, named, pos)
  end
  local what = "filter '" .. name .. "'"
  if #f.params == 0 then
    bind(what, f.params, args, named, pos)
    return f.fn(value, pos)
  end
  local bound = { bind(what, f.params, args, named, pos) }
  bound[#f.params / 2 + 1] = pos
  return f.fn(value, unpack(bound, 1, #f.params / 2 + 1))
end

function M.test(name, value, args, named, pos)
  local t = TESTS[name]
  if not t then
    errors.raise(pos, "unknown test '" .. tostring(name) .. "'")
  end
  if name ~= "defined" and name ~= "undefined" then
    values.defined(value, pos)
  end
  if args.n ~= t.arity or next(named) ~= nil then
    errors.raise(pos, ("test '%s' takes %d arguments, got %d"):format(name, t.arity, args.n))
  end
  return t.fn(value, args[1], pos)
end

-- Helpers -------------------------------------------------------------------------------------

local function as_text(v, pos)
  return values.text(v, pos)
end

--- A function item -> value of a dotted attribute ("a.b", "0"), or the item itself for nil.
local function getter(attribute, pos, default)
  if attribute == nil or attribute == null then
    return function(item) return item end
  end
  local path = type(attribute) == "number" and { attribute } or text.split(attribute, ".", -1, pos)
  return function(item)
    for _, key in ipairs(path) do
      local step = values.get(item, tonumber(key) or key)
      if step == nil then
        if default ~= nil then return default end
        return values.undefined(("'%s object' has no attribute '%s'"):format(values.type_name(item), key), true)
      end
      item = step
    end
    return item
  end
end

--- A key for comparing: strings without case unless asked.
local function folded(case_sensitive)
  return function(v)
    if type(v) == "string" and not case_sensitive then return text.lower(v) end
    return v
  end
end

--- Stable merge sort, so that equal items keep their order (table.sort does not).
local function stable_sort(items, less)
  local n = #items
  local from, to = {}, {}
  for i = 1, n do from[i] = items[i] end
  local width = 1
  while width < n do
    for low = 1, n, 2 * width do
      local middle, high = math.min(low + width, n + 1), math.min(low + 2 * width, n + 1)
      local a, b = low, middle
      for k = low, high - 1 do
        if a < middle and (b >= high or not less(from[b], from[a])) then
          to[k], a = from[a], a + 1
        else
          to[k], b = from[b], b + 1
        end
      end
    end
    from, to, width = to, from, width * 2
  end
  return values.list(from)
end

local function sorted_by(items, key, reverse, pos)
  return stable_sort(items, function(a, b)
    if reverse then a, b = b, a end
    return values.less(key(a), key(b), pos)
  end)
end

local function number(v, pos)
  return values.argument(v, "number", "the value", pos)
end

-- Filters -------------------------------------------------------------------------------------

filter("abs", {}, function(v, pos) return math.abs(number(v, pos)) end)
filter("capitalize", {}, function(v, pos) return text.capitalize(as_text(v, pos)) end)
filter("lower", {}, function(v, pos) return text.lower(as_text(v, pos)) end)
filter("upper", {}, function(v, pos) return text.upper(as_text(v, pos)) end)
filter("title", {}, function(v, pos) return text.title(as_text(v, pos)) end)
filter("trim", { "chars", null }, function(v, chars, pos) return text.strip(as_text(v, pos), chars, "lr") end)
filter("string", {}, as_text)
filter("safe", {}, function(v) return v end) -- nothing is escaped on its own in a prompt
filter("escape", {}, function(v, pos)
  return (as_text(v, pos):gsub("[&<>\"']", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&#34;", ["'"] = "&#39;" }))
end)
filter("length", {}, values.length)
filter("list", {}, function(v, pos)
  local out = values.list()
  for i, item in ipairs(values.iterate(v, pos)) do out[i] = item end
  return out
end)
filter("first", {}, function(v, pos)
  local item = values.iterate(v, pos)[1]
  if item == nil then return values.undefined("No first item, sequence was empty.", true) end
  return item
end)
filter("last", {}, function(v, pos)
  local items = values.iterate(v, pos)
  if #items == 0 then return values.undefined("No last item, sequence was empty.", true) end
  return items[#items]
end)
filter("reverse", {}, function(v, pos)
  local items = values.iterate(v, pos)
  local out = values.list()
  for i = #items, 1, -1 do out[#out + 1] = items[i] end
  return type(v) == "string" and table.concat(out) or out
end)
filter("default", { "default_value", "", "boolean", false }, function(v, default, boolean, pos)
  if values.is_undefined(v) or (boolean and not values.truthy(v, pos)) then return default end
  return v
end)
filter("float", { "default", 0 }, function(v, default)
  if type(v) == "boolean" then return v and 1 or 0 end
  return tonumber(type(v) == "string" and text.strip(v, nil, "lr") or type(v) == "number" and v or nil) or default
end)
filter("int", { "default", 0, "base", 10 }, function(v, default, base, pos)
  if base < 2 or base > 36 then errors.raise(pos, "the argument 'base' of filter 'int' must be 2 to 36") end
  if type(v) == "boolean" then return v and 1 or 0 end
  local n
  if type(v) == "string" then
    local digits = text.strip(v, nil, "lr")
    n = base == 10 and tonumber(digits) or tonumber((digits:gsub("^0[xXbBoO]", "")), base)
  elseif type(v) == "number" then
    n = v
  end
  if not n or n ~= n or math.abs(n) == math.huge then return default end
  return n >= 0 and math.floor(n) or math.ceil(n)
end)
filter("round", { "precision", 0, "method", "common" }, function(v, precision, method, pos)
  number(v, pos)
  local scale = 10 ^ precision
  if method == "ceil" then
    return math.ceil(v * scale) / scale
  elseif method == "floor" then
    return math.floor(v * scale) / scale
  elseif method ~= "common" then
    errors.raise(pos, "method must be common, ceil or floor")
  end
  if precision >= 0 and precision <= 17 then
    return tonumber(("%." .. precision .. "f"):format(v)) -- correctly rounded, half to even, as Python
  end
  return math.floor(v * scale + 0.5) / scale
end)
filter("replace", { "old", REQUIRED, "new", REQUIRED, "count", -1 }, function(v, old, new, count, pos)
  return text.replace(as_text(v, pos), as_text(old, pos), as_text(new, pos), count ~= null and count or -1)
end)
filter("join", { "d", "", "attribute", null }, function(v, separator, attribute, pos)
  local get, parts = getter(attribute, pos), {}
  for i, item in ipairs(values.iterate(v, pos)) do parts[i] = values.text(get(item), pos) end
  return table.concat(parts, as_text(separator, pos))
end)
filter("indent", { "width", 4, "first", false, "blank", false }, function(v, width, first, blank, pos)
  local prefix = type(width) == "string" and width or (" "):rep(width)
  local lines = text.split(as_text(v, pos), "\n", -1, pos)
  for i, line in ipairs(lines) do
    if (i > 1 or first) and (line ~= "" or blank) then lines[i] = prefix .. line end
  end
  return table.concat(lines, "\n")
end)
filter("truncate", { "length", 255, "killwords", false, "end", "...", "leeway", 5 },
  function(v, length, killwords, ending, leeway, pos)
    local chars = values.chars(as_text(v, pos))
    local keep = length - values.char_count(ending)
    if keep < 0 then errors.raise(pos, "length must be at least that of the end") end
    if #chars <= length + (leeway == null and 5 or leeway) then return as_text(v, pos) end
    local cut = table.concat(chars, "", 1, keep)
    if not killwords then cut = cut:match("^(.*) [^ ]*$") or cut end
    return cut .. ending
  end)
filter("wordcount", {}, function(v, pos)
  local _, n = as_text(v, pos):gsub("[%w_\128-\255]+", "")
  return n
end)
filter("urlencode", {}, function(v, pos)
  local function quote(s, in_query)
    local quoted = as_text(s, pos):gsub(in_query and "[^%w_.~ -]" or "[^%w_.~/-]", function(c)
      return ("%%%02X"):format(c:byte())
    end)
    return in_query and (quoted:gsub(" ", "+")) or quoted
  end
  if values.is_dict(v) then
    local parts = {}
    for i, key in ipairs(values.keys(v)) do parts[i] = quote(key, true) .. "=" .. quote(v[key], true) end
    return table.concat(parts, "&")
  end
  return quote(v)
end)
filter("tojson", { "indent", null }, function(v, indent, pos)
  return tojson(v, indent ~= null and indent or nil, pos)
end)
filter("items", {}, function(v, pos)
  if values.is_undefined(v) then return values.list() end
  if not values.is_dict(v) then errors.raise(pos, "can only get item pairs from a map") end
  local out = values.list()
  for i, key in ipairs(values.keys(v)) do out[i] = values.list { key, v[key] } end
  return out
end)
filter("dictsort", { "case_sensitive", false, "by", "key", "reverse", false }, function(v, case_sensitive, by, reverse, pos)
  if by ~= "key" and by ~= "value" then errors.raise(pos, "by must be key or value") end
  local fold, index = folded(case_sensitive), by == "key" and 1 or 2
  return sorted_by(M.apply("items", v, { n = 0 }, {}, pos), function(item) return fold(item[index]) end, reverse, pos)
end)
filter("sort", { "reverse", false, "case_sensitive", false, "attribute", null }, function(v, reverse, case_sensitive, attribute, pos)
  local get, fold = getter(attribute, pos), folded(case_sensitive)
  return sorted_by(values.iterate(v, pos), function(item) return fold(get(item)) end, reverse, pos)
end)
filter("unique", { "case_sensitive", false, "attribute", null }, function(v, case_sensitive, attribute, pos)
  local get, fold, seen, out = getter(attribute, pos), folded(case_sensitive), {}, values.list()
  for _, item in ipairs(values.iterate(v, pos)) do
    local key = fold(get(item))
    local mark = type(key) == "table" and values.repr(key) or key
    if not seen[mark] then
      seen[mark] = true
      out[#out + 1] = item
    end
  end
  return out
end)
filter("groupby", { "attribute", REQUIRED, "default", null, "case_sensitive", false }, function(v, attribute, default, case_sensitive, pos)
  local get = getter(attribute, pos, default ~= null and default or nil)
  local fold = folded(case_sensitive)
  local out = values.list()
  for _, item in ipairs(sorted_by(values.iterate(v, pos), function(item) return fold(get(item)) end, false, pos)) do
    local key, group = get(item), out[#out]
    if not group or not values.equal(fold(group[1]), fold(key)) then
      group = setmetatable({ key, values.list() }, getmetatable(values.list()))
      out[#out + 1] = group
    end
    group[2][#group[2] + 1] = item
  end
  return out
end)
filter("sum", { "attribute", null, "start", 0 }, function(v, attribute, start, pos)
  local get, total = getter(attribute, pos), start
  for _, item in ipairs(values.iterate(v, pos)) do
    total = total + values.argument(values.defined(get(item), pos, true), "number", "an item", pos)
  end
  return total
end)
local function extreme(pick_less)
  return function(v, case_sensitive, attribute, pos)
    local get, fold, best = getter(attribute, pos), folded(case_sensitive), nil
    for _, item in ipairs(values.iterate(v, pos)) do
      if best == nil then
        best = item
      else
        local a, b = fold(get(item)), fold(get(best))
        if not pick_less then a, b = b, a end
        if values.less(a, b, pos) then best = item end
      end
    end
    if best == nil then return values.undefined("No aggregated item, sequence was empty.", true) end
    return best
  end
end
filter("min", { "case_sensitive", false, "attribute", null }, extreme(true))
filter("max", { "case_sensitive", false, "attribute", null }, extreme(false))
filter("batch", { "linecount", REQUIRED, "fill_with", null }, function(v, size, fill, pos)
  if size < 1 then errors.raise(pos, "linecount must be at least 1") end
  local out = values.list()
  for i, item in ipairs(values.iterate(v, pos)) do
    if (i - 1) % size == 0 then out[#out + 1] = values.list() end
    table.insert(out[#out], item)
  end
  while fill ~= null and #out > 0 and #out[#out] < size do table.insert(out[#out], fill) end
  return out
end)

local function variadic(name, fn)
  FILTERS[name] = { fn = fn }
end

variadic("format", function(v, args, _, pos)
  return text.format(as_text(v, pos), args, pos)
end)
variadic("map", function(v, args, named, pos)
  local out = values.list()
  local apply
  if named.attribute ~= nil then
    apply = getter(named.attribute, pos, named.default)
  else
    local rest = { n = math.max(0, args.n - 1), unpack(args, 2, args.n) }
    apply = function(item) return M.apply(args[1], item, rest, named, pos) end
  end
  for i, item in ipairs(values.iterate(v, pos)) do out[i] = apply(item) end
  return out
end)
local function selector(with_attribute, keep)
  return function(v, args, _, pos)
    local first = with_attribute and 2 or 1
    local get = with_attribute and getter(args[1], pos) or function(item) return item end
    local test = args[first]
    local rest = { n = math.max(0, args.n - first), unpack(args, first + 1, args.n) }
    local out = values.list()
    for _, item in ipairs(values.iterate(v, pos)) do
      local value = get(item)
      local passed
      if test == nil then
        passed = not values.is_undefined(value) and values.truthy(value, pos)
      else
        passed = M.test(test, value, rest, {}, pos)
      end
      if passed == keep then out[#out + 1] = item end
    end
    return out
  end
end
variadic("select", selector(false, true))
variadic("reject", selector(false, false))
variadic("selectattr", selector(true, true))
variadic("rejectattr", selector(true, false))

FILTERS.d, FILTERS.e, FILTERS.count = FILTERS.default, FILTERS.escape, FILTERS.length

-- Tests ---------------------------------------------------------------------------------------

local function test(names, arity, fn)
  for name in names:gmatch("%S+") do TESTS[name] = { arity = arity, fn = fn } end
end

test("defined", 0, function(v) return not values.is_undefined(v) end)
test("undefined", 0, values.is_undefined)
test("none", 0, function(v) return v == null end)
test("boolean", 0, function(v) return type(v) == "boolean" end)
test("true", 0, function(v) return v == true end)
test("false", 0, function(v) return v == false end)
test("number", 0, function(v) return type(v) == "number" or type(v) == "boolean" end)
test("integer", 0, function(v) return type(v) == "number" and v % 1 == 0 end)
test("float", 0, function(v) return type(v) == "number" and v % 1 ~= 0 end)
test("string", 0, function(v) return type(v) == "string" end)
test("mapping", 0, values.is_dict)
test("sequence iterable", 0, function(v) return type(v) == "string" or (type(v) == "table" and not values.is_undefined(v)) end)
test("lower", 0, function(v, _, pos) local s = as_text(v, pos) return s == text.lower(s) and s ~= text.upper(s) end)
test("upper", 0, function(v, _, pos) local s = as_text(v, pos) return s == text.upper(s) and s ~= text.lower(s) end)
test("odd", 0, function(v, _, pos) return number(v, pos) % 2 == 1 end)
test("even", 0, function(v, _, pos) return number(v, pos) % 2 == 0 end)
test("divisibleby", 1, function(v, by, pos)
  if values.argument(by, "number", "the divisor", pos) == 0 then errors.raise(pos, "division by zero") end
  return number(v, pos) % by == 0
end)
test("== eq equalto sameas", 1, values.equal)
test("!= ne", 1, function(v, other) return not values.equal(v, other) end)
test("< lt lessthan", 1, function(v, other, pos) return values.less(v, other, pos, "<") end)
test("> gt greaterthan", 1, function(v, other, pos) return values.less(other, v, pos, ">") end)
test("<= le", 1, function(v, other, pos) return not values.less(other, v, pos, "<=") end)
test(">= ge", 1, function(v, other, pos) return not values.less(v, other, pos, ">=") end)
test("in", 1, function(v, container, pos) return values.contains(container, v, pos) end)
test("filter", 0, function(v) return FILTERS[v] ~= nil end)
test("test", 0, function(v) return TESTS[v] ~= nil end)

--- Sets of known names, for the compiler.
M.names, M.test_names = {}, {}
for name in pairs(FILTERS) do M.names[name] = true end
for name in pairs(TESTS) do M.test_names[name] = true end

return M
