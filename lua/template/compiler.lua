--- Template compiler: syntax tree -> the source of a Lua chunk.
---
--- The chunk gets the runtime (template/runtime.lua) and returns function(scope, out, include):
--- it appends strings to the list `out`. Every runtime call that can fail ends with the position
--- it stands for, so an error names line and column at no cost on the good path.
local errors = require "template.errors"
local parser = require "template.parser"

local M = {}

local expression -- forward

local function quote(text)
  return '"' .. text:gsub('[%c"\\\127]', function(c)
    return ("\\%03d"):format(c:byte())
  end) .. '"'
end

local function number(value)
  return ("%.17g"):format(value)
end

local function list_of(nodes)
  local parts = {}
  for i, node in ipairs(nodes) do
    parts[i] = expression(node)
  end
  return parts
end

--- {n = count, args…} and {name = …} of a call, filter or test.
local function arguments(args)
  local named = {}
  for i, pair in ipairs(args.named) do
    named[i] = ("[%s]=%s"):format(quote(pair.name), expression(pair.value))
  end
  local positional = list_of(args)
  return ("{n=%d%s},{%s}"):format(#positional,
    #positional > 0 and "," .. table.concat(positional, ",") or "", table.concat(named, ","))
end

local EXPRESSION = {
  ["true"] = function() return "true" end,
  ["false"] = function() return "false" end,
  none = function() return "R.null" end,
  string = function(node) return quote(node.value) end,
  number = function(node) return number(node.value) end,
  name = function(node) return ("R.name(s,%s,%d)"):format(quote(node.name), node.pos) end,
  list = function(node) return ("R.list{n=%d,%s}"):format(#node, table.concat(list_of(node), ",")) end,
  dict = function(node)
    local parts = {}
    for i, pair in ipairs(node) do
      parts[i] = ("{%s,%s}"):format(expression(pair.key), expression(pair.value))
    end
    return ("R.dict({%s},%d)"):format(table.concat(parts, ","), node.pos)
  end,
  attribute = function(node)
    return ("R.attribute(%s,%s,%d)"):format(expression(node.object), quote(node.name), node.pos)
  end,
  item = function(node)
    return ("R.item(%s,%s,%d)"):format(expression(node.object), expression(node.key), node.pos)
  end,
  slice = function(node)
    local function part(n) return n and expression(n) or "nil" end
    return ("R.slice(%s,%s,%s,%s,%d)"):format(expression(node.object), part(node.from), part(node.to),
      part(node.step), node.pos)
  end,
  call = function(node)
    local callee = node.callee
    if callee.type == "attribute" then -- a method
      return ("R.method(%s,%s,%d,%s)"):format(expression(callee.object), quote(callee.name), callee.pos,
        arguments(node.args))
    elseif callee.type == "name" then
      return ("R.call(s,%s,%d,%s)"):format(quote(callee.name), callee.pos, arguments(node.args))
    end
    errors.raise(node.pos, "only a name or a method can be called")
  end,
  filter = function(node)
    if not M.filters[node.name] then
      errors.raise(node.pos, "unknown filter '" .. node.name .. "'")
    end
    return ("R.filter(%s,%s,%d,%s)"):format(quote(node.name), expression(node.object), node.pos,
      arguments(node.args))
  end,
  test = function(node)
    if not M.tests[node.name] then
      errors.raise(node.pos, "unknown test '" .. node.name .. "'")
    end
    return ("R.test(%s,%s,%d,%s)"):format(quote(node.name), expression(node.object), node.pos,
      arguments(node.args))
  end,
  unary = function(node)
    return ("R.unary(%s,%s,%d)"):format(quote(node.op), expression(node[1]), node.pos)
  end,
  chain = function(node)
    local parts = { expression(node.first) }
    for _, link in ipairs(node) do
      parts[#parts + 1] = ("%s,%d,%s"):format(quote(link.op), link.pos, expression(link.operand))
    end
    return ("R.chain(%s)"):format(table.concat(parts, ","))
  end,
  compare = function(node)
    local parts = { expression(node.first) }
    for _, link in ipairs(node) do
      -- Operands are closures: a chain stops at the first comparison that fails.
      parts[#parts + 1] = ("%s,function() return %s end"):format(quote(link.op), expression(link.operand))
    end
    return ("R.compare(%d,%s)"):format(node.pos, table.concat(parts, ","))
  end,
  ["not"] = function(node) return ("(not R.truthy(%s,%d))"):format(expression(node[1]), node.pos) end,
  cond = function(node)
    local no = node.no and expression(node.no)
      or "R.no_else(s)"
    return ("R.cond(%s,%d,function() return %s end,function() return %s end)"):format(
      expression(node.test), node.pos, expression(node.yes), no)
  end,
}

--- `and` and `or` give one of their operands, as in Python; operands are evaluated when needed.
local function logical(name)
  return function(node)
    local parts = {}
    for i, operand in ipairs(node) do
      parts[i] = ("function() return %s end"):format(expression(operand))
    end
    return ("R.logical(%s,%d,%s)"):format(quote(name), node.pos, table.concat(parts, ","))
  end
end
EXPRESSION["and"] = logical("and")
EXPRESSION["or"] = logical("or")

function expression(node)
  return EXPRESSION[node.type](node)
end

local STATEMENT = {}

local function body(nodes, emit)
  for _, node in ipairs(nodes) do
    STATEMENT[node.type](node, emit)
  end
end

function STATEMENT.text(node, emit)
  emit(("out[#out+1]=%s"):format(quote(node.value)))
end

function STATEMENT.print(node, emit)
  emit(("out[#out+1]=R.text(%s,%d)"):format(expression(node[1]), node.pos))
end

STATEMENT["if"] = function(node, emit)
  for i, branch in ipairs(node) do
    emit(("%s R.truthy(%s,%d) then"):format(i == 1 and "if" or "elseif", expression(branch.test), branch.test.pos))
    body(branch.body, emit)
  end
  if node.otherwise then
    emit("else")
    body(node.otherwise, emit)
  end
  emit("end")
end

--- Statements that put the value `v` into the names of scope `s`.
local function assign(targets, value, pos, emit)
  if #targets == 1 then
    emit(("R.set(s,%s,%s)"):format(quote(targets[1]), value))
    return
  end
  local names = {}
  for i, name in ipairs(targets) do
    names[i] = quote(name)
  end
  emit(("R.unpack(s,{%s},%s,%d)"):format(table.concat(names, ","), value, pos))
end

STATEMENT["for"] = function(node, emit)
  emit(("do local loop=R.loop(%s,s,%d)"):format(expression(node.iterable), node.pos))
  if node.filter then
    emit("loop:filter(function(item,s)")
    assign(node.targets, "item", node.pos, emit)
    emit(("return R.truthy(%s,%d) end)"):format(expression(node.filter), node.filter.pos))
  end
  emit("for i=1,loop.n do local s=loop:enter(i)")
  assign(node.targets, "loop.items[i]", node.pos, emit)
  body(node.body, emit)
  emit("end")
  if node.otherwise then
    emit("if loop.n==0 then")
    body(node.otherwise, emit)
    emit("end")
  end
  emit("end")
end

STATEMENT["set"] = function(node, emit)
  if node.body then
    emit("do local text={} do local out=text local s=R.scope(s)")
    body(node.body, emit)
    emit(("end R.set(s,%s,table.concat(text)) end"):format(quote(node.targets[1])))
  elseif node.namespace then
    emit(("R.set_in_namespace(s,%s,%s,%s,%d)"):format(quote(node.namespace), quote(node.targets[1]),
      expression(node.value), node.pos))
  else
    emit("do local v=" .. expression(node.value))
    assign(node.targets, "v", node.pos, emit)
    emit("end")
  end
end

function STATEMENT.with(node, emit)
  emit("do local outer=s local s=R.scope(s)")
  for _, pair in ipairs(node) do
    -- Values are seen from outside, as in Jinja2.
    emit(("R.set(s,%s,(function(s) return %s end)(outer))"):format(quote(pair.name), expression(pair.value)))
  end
  body(node.body, emit)
  emit("end")
end

function STATEMENT.include(node, emit)
  emit(("include(%s,%s,%s,out,%d)"):format(quote(node.name), node.without_context and "nil" or "s",
    tostring(node.ignore_missing == true), node.pos))
end

--- Names that the tree includes: {{name, optional, pos}…} in order, each once.
local function includes_of(nodes, found)
  for _, node in ipairs(nodes) do
    if node.type == "include" then
      local known = found[node.name]
      if not known then
        known = { name = node.name, optional = true, pos = node.pos }
        found[#found + 1], found[node.name] = known, known
      end
      known.optional = known.optional and node.ignore_missing == true
    end
    for _, inner in ipairs(node.type == "if" and node or {}) do
      includes_of(inner.body, found)
    end
    includes_of(node.body or {}, found)
    includes_of(node.otherwise or {}, found)
  end
  return found
end

---@class CompiledTemplate
---@field source string Lua source of the chunk
---@field includes { name: string, optional: boolean, pos: integer }[]

--- Compile one template. Raises a template error.
---@param source string
---@return CompiledTemplate
function M.compile(source)
  local tree = parser.parse(source)
  local lines = { "local R=... local table=table return function(s,out,include)" }
  body(tree, function(line)
    lines[#lines + 1] = line
  end)
  lines[#lines + 1] = "end"
  local found = {}
  for i, include in ipairs(includes_of(tree, {})) do
    found[i] = include
  end
  return { source = table.concat(lines, "\n"), includes = found }
end

--- Known names, for errors at compile time; set by template/init.lua.
M.filters, M.tests = {}, {}

return M
