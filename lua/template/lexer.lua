--- Jinja2 lexer: template text -> a list of tokens with their positions.
---
--- Token: {kind, value, pos}. Kinds: "data" (text), "block_begin", "block_end", "print_begin",
--- "print_end", "name", "string", "number", "op", "eof". Whitespace control (`-`) is resolved
--- here: data tokens come already stripped. `{% raw %}` becomes data.
local errors = require "template.errors"

local M = {}

local OPERATORS = { -- longest first
  "//", "**", "==", "!=", "<=", ">=",
  "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ":", ".", "|", ";",
}

local ESCAPES = {
  n = "\n", t = "\t", r = "\r", b = "\b", f = "\f", v = "\v", a = "\a",
  ["0"] = "\0", ["\\"] = "\\", ["'"] = "'", ['"'] = '"', ["\n"] = "",
}

--- UTF-8 bytes of a code point.
---@param code integer
---@return string
local function utf8_char(code)
  local char, floor = string.char, math.floor
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 64), 0x80 + code % 64)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64,
    0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

--- A function that turns byte offsets, asked for in rising order, into positions.
local function position_counter(source)
  local line, line_start, scanned = 1, 1, 1
  return function(offset)
    while true do
      local newline = source:find("\n", scanned, true)
      if not newline or newline >= offset then
        break
      end
      line, line_start, scanned = line + 1, newline + 1, newline + 1
    end
    return errors.position(line, offset - line_start + 1)
  end
end

local function unescape(text, pos)
  if not text:find("\\", 1, true) then
    return text
  end
  local out, i = {}, 1
  while i <= #text do
    local slash = text:find("\\", i, true)
    if not slash then
      out[#out + 1] = text:sub(i)
      break
    end
    out[#out + 1] = text:sub(i, slash - 1)
    local c = text:sub(slash + 1, slash + 1)
    local digits = c == "x" and 2 or c == "u" and 4 or c == "U" and 8
    if digits then
      local hex = text:sub(slash + 2, slash + 1 + digits)
      local code = #hex == digits and not hex:find("%X") and tonumber(hex, 16)
      if not code or code > 0x10FFFF or (code >= 0xD800 and code < 0xE000) then
        errors.raise(pos, "bad escape \\" .. c .. " in a string")
      end
      out[#out + 1] = utf8_char(code)
      i = slash + 2 + digits
    else
      -- As in Python, an unknown escape keeps its backslash.
      out[#out + 1] = ESCAPES[c] or "\\" .. c
      i = slash + 2
    end
  end
  return table.concat(out)
end

--- Tokens of one {{ … }} or {% … %}; returns the offset behind its end mark and whether that
--- mark strips what follows.
local function lex_inside(source, i, close, position, tokens, open_pos)
  local depth = {}
  local function push(kind, value, at)
    tokens[#tokens + 1] = { kind = kind, value = value, pos = position(at) }
  end
  while true do
    i = source:find("%S", i)
    if not i then
      errors.raise(open_pos, "unexpected end of template: '" .. close .. "' is missing")
    end
    local c = source:sub(i, i)
    if #depth == 0 then
      local two = source:sub(i, i + 1)
      if two == close then
        return i + 2, false, i
      end
      if (c == "-" or c == "+") and source:sub(i + 1, i + 2) == close then
        return i + 3, c == "-", i
      end
    end
    if c:find("[%a_\128-\255]") then
      local name = source:match("^[%w_\128-\255]+", i)
      push("name", name, i)
      i = i + #name
    elseif c:find("%d") then
      local text = source:match("^0[xX][%x_]+", i) or source:match("^0[oO][0-7_]+", i)
        or source:match("^0[bB][01_]+", i)
      local number
      if text then
        local digits = text:sub(3):gsub("_", "")
        number = tonumber(digits, ({ x = 16, o = 8, b = 2 })[text:sub(2, 2):lower()])
      else
        text = source:match("^[%d_]+", i)
        -- `1.foo` is not a fraction, `1.5` is.
        text = text .. (source:match("^%.%d[%d_]*", i + #text) or "")
        text = text .. (source:match("^[eE][+-]?%d+", i + #text) or "")
        number = tonumber((text:gsub("_", "")))
      end
      if not number then
        errors.raise(position(i), "bad number '" .. text .. "'")
      end
      push("number", number, i)
      i = i + #text
    elseif c == "'" or c == '"' then
      local start, j = i, i + 1
      while true do
        local at = source:find("[\\" .. c .. "]", j)
        if not at then
          errors.raise(position(start), "unterminated string")
        end
        if source:sub(at, at) == c then
          j = at
          break
        end
        j = at + 2
      end
      local pos = position(start)
      tokens[#tokens + 1] = { kind = "string", value = unescape(source:sub(start + 1, j - 1), pos), pos = pos }
      i = j + 1
    else
      local found
      for _, op in ipairs(OPERATORS) do
        if source:sub(i, i + #op - 1) == op then
          found = op
          break
        end
      end
      if not found then
        errors.raise(position(i), "unexpected character '" .. c .. "'")
      end
      if found == "(" or found == "[" or found == "{" then
        depth[#depth + 1] = found
      elseif found == ")" or found == "]" or found == "}" then
        local open = table.remove(depth)
        if not open or open .. found ~= ({ [")"] = "()", ["]"] = "[]", ["}"] = "{}" })[found] then
          errors.raise(position(i), "unexpected '" .. found .. "'")
        end
      end
      push("op", found, i)
      i = i + #found
    end
  end
end

--- Tokens of a template. Raises a template error.
---@param source string UTF-8
---@return table[] tokens
function M.tokens(source)
  -- As in Jinja2: line ends become \n, one newline at the end is dropped.
  source = source:gsub("\r\n", "\n"):gsub("\r", "\n"):gsub("\n$", "", 1)
  local position = position_counter(source)
  local tokens = {}
  local i, strip_next = 1, false

  local function data(text, at, strip_end)
    if strip_next then
      text = text:gsub("^%s+", "")
    end
    if strip_end then
      text = text:gsub("%s+$", "")
    end
    strip_next = false
    if text ~= "" then
      tokens[#tokens + 1] = { kind = "data", value = text, pos = position(at) }
    end
  end

  while true do
    local open = i
    repeat
      open = source:find("{", open, true)
      local mark = open and source:sub(open + 1, open + 1)
      local is_mark = mark == "{" or mark == "%" or mark == "#"
      if open and not is_mark then
        open = open + 1
      end
    until not open or is_mark
    if not open then
      data(source:sub(i), i, false)
      break
    end
    local kind = source:sub(open + 1, open + 1)
    local control = source:sub(open + 2, open + 2)
    data(source:sub(i, open - 1), i, control == "-")
    local inside = open + 2 + ((control == "-" or control == "+") and 1 or 0)
    if kind == "#" then
      local close = source:find("#}", inside, true)
      if not close then
        errors.raise(position(open), "unexpected end of template: '#}' is missing")
      end
      strip_next = source:sub(close - 1, close - 1) == "-" and close - 1 >= inside
      i = close + 2
    elseif kind == "%" and source:find("^%s*raw%s*[-+]?%%}", inside) then
      local _, raw_open, strip = source:find("^%s*raw%s*([-+]?)%%}", inside)
      local raw_close, raw_end, before, after =
        source:find("{%%([-+]?)%s*endraw%s*([-+]?)%%}", raw_open + 1)
      if not raw_close then
        errors.raise(position(open), "unexpected end of template: 'endraw' is missing")
      end
      strip_next = strip == "-"
      data(source:sub(raw_open + 1, raw_close - 1), raw_open + 1, before == "-")
      strip_next = after == "-"
      i = raw_end + 1
    else
      local name = kind == "{" and "print" or "block"
      local pos = position(open)
      tokens[#tokens + 1] = { kind = name .. "_begin", value = "{" .. kind, pos = pos }
      local after, strip, at =
        lex_inside(source, inside, kind == "{" and "}}" or "%}", position, tokens, pos)
      tokens[#tokens + 1] = { kind = name .. "_end", pos = position(at) }
      i, strip_next = after, strip
    end
  end
  tokens[#tokens + 1] = { kind = "eof", pos = position(#source + 1) }
  return tokens
end

M.utf8_char = utf8_char

return M
