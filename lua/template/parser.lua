--- Jinja2 parser: tokens -> syntax tree. The grammar is that of Jinja2 3.1 for the tags and
--- expressions listed in docs/templates.md; anything else is an error that names it.
---
--- A node is {type = …, pos = …, …}; a body is a list of nodes.
local errors = require "template.errors"
local lexer = require "template.lexer"

local M = {}

local MAX_DEPTH = 50 -- nesting of tags and of expressions: Lua's own compiler has such a limit too
local MAX_CHAIN = 100 -- operands or filters in a row

local CONSTANTS = {
  ["true"] = { "true" }, ["True"] = { "true" }, ["false"] = { "false" }, ["False"] = { "false" },
  none = { "none" }, None = { "none" },
}

---@class Parser
local Parser = {}
Parser.__index = Parser

function Parser:peek(ahead)
  return self.tokens[self.at + (ahead or 0)]
end

function Parser:next()
  local token = self.tokens[self.at]
  self.at = self.at + 1
  return token
end

function Parser:is(kind, value)
  local token = self:peek()
  return token.kind == kind and (value == nil or token.value == value)
end

function Parser:accept(kind, value)
  if self:is(kind, value) then
    return self:next()
  end
end

local function describe(token)
  if token.kind == "eof" then
    return "end of template"
  elseif token.kind == "block_end" then
    return "end of the tag"
  elseif token.kind == "print_end" then
    return "end of the expression"
  end
  return "'" .. tostring(token.value) .. "'"
end

function Parser:expect(kind, value)
  local token = self:accept(kind, value)
  if not token then
    local got = self:peek()
    errors.raise(got.pos, ("expected %s, got %s"):format(value and "'" .. value .. "'" or kind, describe(got)))
  end
  return token
end

function Parser:deeper(pos)
  self.depth = self.depth + 1
  if self.depth > MAX_DEPTH then
    errors.raise(pos, ("nested more than %d levels"):format(MAX_DEPTH))
  end
end

function Parser:shallower()
  self.depth = self.depth - 1
end

local function check_chain(count, pos)
  if count > MAX_CHAIN then
    errors.raise(pos, ("more than %d operands in a row"):format(MAX_CHAIN))
  end
end

-- Expressions, from loose to tight ------------------------------------------------------------

function Parser:expression(no_condition)
  self:deeper(self:peek().pos)
  local node = self:logical("or", Parser.conjunction)
  while not no_condition and self:is("name", "if") do
    local pos = self:next().pos
    local test = self:logical("or", Parser.conjunction)
    local otherwise
    if self:accept("name", "else") then
      otherwise = self:expression()
    end
    node = { type = "cond", pos = pos, test = test, yes = node, no = otherwise }
  end
  self:shallower()
  return node
end

function Parser:logical(word, operand)
  local first = operand(self)
  if not self:is("name", word) then
    return first
  end
  local node = { type = word, pos = self:peek().pos, first }
  while self:accept("name", word) do
    node[#node + 1] = operand(self)
    check_chain(#node, node.pos)
  end
  return node
end

function Parser:conjunction()
  return self:logical("and", Parser.negation)
end

function Parser:negation()
  if self:is("name", "not") then
    local pos = self:next().pos
    self:deeper(pos)
    local node = { type = "not", pos = pos, self:negation() }
    self:shallower()
    return node
  end
  return self:comparison()
end

local COMPARE = { ["=="] = true, ["!="] = true, ["<"] = true, ["<="] = true, [">"] = true, [">="] = true }

function Parser:comparison()
  local first = self:binary(1)
  local node
  while true do
    local token = self:peek()
    local op
    if token.kind == "op" and COMPARE[token.value] then
      op = self:next().value
    elseif self:accept("name", "in") then
      op = "in"
    elseif self:is("name", "not") and self:peek(1).kind == "name" and self:peek(1).value == "in" then
      self:next()
      self:next()
      op = "not in"
    else
      return node or first
    end
    node = node or { type = "compare", pos = token.pos, first = first }
    node[#node + 1] = { op = op, operand = self:binary(1) }
    check_chain(#node, token.pos)
  end
end

local LEVELS = { -- loose to tight
  { ["+"] = true, ["-"] = true },
  { ["~"] = true },
  { ["*"] = true, ["/"] = true, ["//"] = true, ["%"] = true },
  { ["**"] = true },
}

--- A chain of operators of one level: evaluated from the left, one flat node.
function Parser:binary(level)
  local ops = LEVELS[level]
  if not ops then
    return self:unary(true)
  end
  local first = self:binary(level + 1)
  local token = self:peek()
  if token.kind ~= "op" or not ops[token.value] then
    return first
  end
  local node = { type = "chain", pos = token.pos, first = first }
  while token.kind == "op" and ops[token.value] do
    self:next()
    node[#node + 1] = { op = token.value, pos = token.pos, operand = self:binary(level + 1) }
    check_chain(#node, token.pos)
    token = self:peek()
  end
  return node
end

function Parser:unary(with_filters)
  local token = self:peek()
  local node
  if token.kind == "op" and (token.value == "-" or token.value == "+") then
    self:next()
    self:deeper(token.pos)
    node = { type = "unary", pos = token.pos, op = token.value, self:unary(false) }
    self:shallower()
  else
    node = self:primary()
  end
  node = self:postfix(node)
  return with_filters and self:filters(node) or node
end

function Parser:primary()
  local token = self:next()
  if token.kind == "name" then
    local constant = CONSTANTS[token.value]
    if constant then
      return { type = constant[1], pos = token.pos }
    end
    return { type = "name", pos = token.pos, name = token.value }
  elseif token.kind == "string" then
    local text = token.value
    while self:is("string") do -- neighbours join, as in Python
      text = text .. self:next().value
    end
    return { type = "string", pos = token.pos, value = text }
  elseif token.kind == "number" then
    return { type = "number", pos = token.pos, value = token.value }
  elseif token.kind == "op" and token.value == "(" then
    if self:accept("op", ")") then
      return { type = "list", pos = token.pos }
    end
    local first = self:expression()
    if not self:is("op", ",") then
      self:expect("op", ")")
      return first
    end
    local list = { type = "list", pos = token.pos, first }
    while self:accept("op", ",") and not self:is("op", ")") do
      list[#list + 1] = self:expression()
    end
    self:expect("op", ")")
    return list
  elseif token.kind == "op" and token.value == "[" then
    local list = { type = "list", pos = token.pos }
    while not self:is("op", "]") do
      list[#list + 1] = self:expression()
      if not self:accept("op", ",") then
        break
      end
    end
    self:expect("op", "]")
    return list
  elseif token.kind == "op" and token.value == "{" then
    local dict = { type = "dict", pos = token.pos }
    while not self:is("op", "}") do
      local key = self:expression()
      self:expect("op", ":")
      dict[#dict + 1] = { key = key, value = self:expression() }
      if not self:accept("op", ",") then
        break
      end
    end
    self:expect("op", "}")
    return dict
  end
  errors.raise(token.pos, "expected an expression, got " .. describe(token))
end

--- Arguments behind an open parenthesis: {positional…, named = {{name, node}…}}.
function Parser:arguments()
  local args = { named = {} }
  while not self:is("op", ")") do
    if self:is("name") and self:peek(1).kind == "op" and self:peek(1).value == "=" then
      local name = self:next().value
      self:next()
      args.named[#args.named + 1] = { name = name, value = self:expression() }
    elseif #args.named > 0 then
      errors.raise(self:peek().pos, "a positional argument follows a named one")
    else
      args[#args + 1] = self:expression()
    end
    check_chain(#args + #args.named, self:peek().pos)
    if not self:accept("op", ",") then
      break
    end
  end
  self:expect("op", ")")
  return args
end

function Parser:subscript(object, pos)
  local from, to, step
  local is_slice = false
  if not self:is("op", ":") then
    from = self:expression()
  end
  if self:accept("op", ":") then
    is_slice = true
    if not self:is("op", ":") and not self:is("op", "]") then
      to = self:expression()
    end
    if self:accept("op", ":") and not self:is("op", "]") then
      step = self:expression()
    end
  end
  self:expect("op", "]")
  if is_slice then
    return { type = "slice", pos = pos, object = object, from = from, to = to, step = step }
  end
  return { type = "item", pos = pos, object = object, key = from }
end

function Parser:postfix(node)
  local links = 0
  while true do
    local token = self:peek()
    if token.kind ~= "op" then
      return node
    end
    if token.value == "." then
      self:next()
      local key = self:next()
      if key.kind == "number" then
        node = { type = "item", pos = key.pos, object = node,
          key = { type = "number", pos = key.pos, value = key.value } }
      elseif key.kind == "name" then
        node = { type = "attribute", pos = key.pos, object = node, name = key.value }
      else
        errors.raise(key.pos, "expected a name after '.', got " .. describe(key))
      end
    elseif token.value == "[" then
      self:next()
      node = self:subscript(node, token.pos)
    elseif token.value == "(" then
      self:next()
      node = { type = "call", pos = token.pos, callee = node, args = self:arguments() }
    else
      return node
    end
    links = links + 1
    check_chain(links * 2, token.pos)
  end
end

--- `| name(args)` and `is [not] name args`, in a row.
function Parser:filters(node)
  local links = 0
  while true do
    if self:accept("op", "|") then
      local token = self:expect("name")
      node = { type = "filter", pos = token.pos, name = token.value, object = node,
        args = self:accept("op", "(") and self:arguments() or { named = {} } }
    elseif self:is("name", "is") then
      self:next()
      local negated = self:accept("name", "not") ~= nil
      local token = self:next()
      if token.kind ~= "name" and token.value ~= "==" then
        errors.raise(token.pos, "expected the name of a test, got " .. describe(token))
      end
      local args = { named = {} }
      local following = self:peek()
      if self:accept("op", "(") then
        args = self:arguments()
      elseif following.kind == "string" or following.kind == "number"
        or (following.kind == "op" and (following.value == "[" or following.value == "{"))
        or (following.kind == "name" and not ({ ["else"] = 1, ["or"] = 1, ["and"] = 1, ["if"] = 1,
          ["is"] = 1, ["not"] = 1, ["in"] = 1, ["recursive"] = 1 })[following.value]) then
        args[1] = self:postfix(self:primary())
      end
      node = { type = "test", pos = token.pos, name = token.value, object = node, args = args }
      if negated then
        node = { type = "not", pos = token.pos, node }
      end
    else
      return node
    end
    links = links + 1
    check_chain(links * 2, node.pos)
  end
end

-- Tags ----------------------------------------------------------------------------------------

local TAGS = {}

--- One or more names, for `for a, b in` and `set a, b =`.
function Parser:targets()
  local names = {}
  local parenthesis = self:accept("op", "(")
  repeat
    local token = self:expect("name")
    if CONSTANTS[token.value] or token.value == "loop" then
      errors.raise(token.pos, "cannot assign to '" .. token.value .. "'")
    end
    names[#names + 1] = token.value
  until not self:accept("op", ",") or not self:is("name")
  if parenthesis then
    self:expect("op", ")")
  end
  return names
end

--- An expression where a comma makes a list: `for x in 1, 2`.
function Parser:tuple(no_condition)
  local first = self:expression(no_condition)
  if not self:is("op", ",") then
    return first
  end
  local list = { type = "list", pos = first.pos, first }
  while self:accept("op", ",") and not self:is("block_end") do
    list[#list + 1] = self:expression(no_condition)
  end
  return list
end

--- The nodes up to one of the closing tags; returns them and the closing tag's name token.
function Parser:body(opener, ...)
  self:deeper(opener.pos)
  local closing = { ... }
  local nodes = {}
  while true do
    local token = self:next()
    if token.kind == "data" then
      nodes[#nodes + 1] = { type = "text", pos = token.pos, value = token.value }
    elseif token.kind == "print_begin" then
      nodes[#nodes + 1] = { type = "print", pos = self:peek().pos, self:tuple() }
      self:expect("print_end")
    elseif token.kind == "block_begin" then
      local tag = self:expect("name")
      for _, name in ipairs(closing) do
        if tag.value == name then
          self:shallower()
          return nodes, tag
        end
      end
      local parse = TAGS[tag.value]
      if not parse then
        local wanted = #closing > 0 and ", expected '" .. table.concat(closing, "' or '") .. "'" or ""
        errors.raise(tag.pos, ("unknown tag '%s'%s"):format(tag.value, wanted))
      end
      nodes[#nodes + 1] = parse(self, tag)
      self:expect("block_end")
    elseif #closing == 0 then
      self:shallower()
      return nodes
    else
      errors.raise(opener.pos, ("'%s' is not closed: expected '%s' before the end of template"):format(
        opener.value, table.concat(closing, "' or '")))
    end
  end
end

TAGS["if"] = function(self, tag)
  local node = { type = "if", pos = tag.pos }
  local test = self:expression()
  while true do
    self:expect("block_end")
    local body, closer = self:body(tag, "elif", "else", "endif")
    node[#node + 1] = { test = test, body = body }
    if closer.value == "elif" then
      test = self:expression()
    elseif closer.value == "else" then
      self:expect("block_end")
      node.otherwise = self:body(tag, "endif")
      return node
    else
      return node
    end
  end
end

TAGS["for"] = function(self, tag)
  local node = { type = "for", pos = tag.pos }
  node.targets = self:targets()
  self:expect("name", "in")
  node.iterable = self:tuple(true)
  if self:accept("name", "if") then
    node.filter = self:expression()
  end
  if self:is("name", "recursive") then
    errors.raise(self:peek().pos, "recursive loops are not supported")
  end
  self:expect("block_end")
  local closer
  node.body, closer = self:body(tag, "else", "endfor")
  if closer.value == "else" then
    self:expect("block_end")
    node.otherwise = self:body(tag, "endfor")
  end
  return node
end

TAGS["set"] = function(self, tag)
  local node = { type = "set", pos = tag.pos }
  if self:is("name") and self:peek(1).kind == "op" and self:peek(1).value == "." then
    node.namespace = self:next().value -- `set ns.x = …`
    self:next()
    node.targets = { self:expect("name").value }
  else
    node.targets = self:targets()
  end
  if self:accept("op", "=") then
    node.value = self:tuple()
    return node
  end
  if #node.targets > 1 or node.namespace then
    errors.raise(self:peek().pos, "expected '='")
  end
  self:expect("block_end")
  node.body = self:body(tag, "endset")
  return node
end

TAGS["with"] = function(self, tag)
  local node = { type = "with", pos = tag.pos }
  while not self:is("block_end") do
    local name = self:expect("name").value
    self:expect("op", "=")
    node[#node + 1] = { name = name, value = self:expression() }
    if not self:accept("op", ",") then
      break
    end
  end
  self:expect("block_end")
  node.body = self:body(tag, "endwith")
  return node
end

TAGS["include"] = function(self, tag)
  local token = self:peek()
  if token.kind ~= "string" then
    errors.raise(token.pos, "include takes the id of a prompt as a constant string")
  end
  self:next()
  local node = { type = "include", pos = token.pos, name = token.value }
  if self:accept("name", "ignore") then
    self:expect("name", "missing")
    node.ignore_missing = true
  end
  if self:accept("name", "with") then
    self:expect("name", "context")
  elseif self:accept("name", "without") then
    self:expect("name", "context")
    node.without_context = true
  end
  return node
end

--- Syntax tree of a template. Raises a template error.
---@param source string
---@return table[] body
function M.parse(source)
  local parser = setmetatable({ tokens = lexer.tokens(source), at = 1, depth = 0 }, Parser)
  return (parser:body({ pos = nil, value = "template" }))
end

return M
