--- What the console evaluates with: this file runs inside a session's script VM, not in the service.
--- Everything here is bounded by that VM's limits; values are shown without running a metamethod.

-- luacheck: globals print log
local concat, gsub, format, byte = table.concat, string.gsub, string.format, string.byte
local floor, sub, find, rep = math.floor, string.sub, string.find, string.rep
local type, tostring, select, pairs, pcall, load = type, tostring, select, pairs, pcall, load
local write, encode = log, require("json").encode

local M = {}

--- Bytes of a shown value that are kept, and that are made at all.
local KEPT, MADE = 64 * 1024, 2 * 1024 * 1024
local WIDTH, DEPTH = 96, 32
--- Global names told for completion, and fields of each that is a table.
local NAMES, FIELDS = 400, 60

local keywords = {}
for word in string.gmatch("and break do else elseif end false for function goto if in local nil not or repeat return then "
  .. "true until while", "%l+") do
  keywords[word] = true
end

local function name_like(key)
  return type(key) == "string" and find(key, "^[%a_][%w_]*$") and not keywords[key]
end

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function escaped(c)
  return escapes[c] or format("\\%03d", byte(c))
end

-- Bytes that are no UTF-8 as \ddd: only text leaves the VM.
local function as_text(text)
  local ok, whole = pcall(encode, text)
  if ok and whole then
    return text
  end
  return (gsub(text, "[\128-\255][\128-\191]*", function(c)
    local fine, one = pcall(encode, c)
    return not (fine and one) and gsub(c, ".", escaped) or c
  end))
end

local function quoted(text)
  return as_text('"' .. gsub(text, '[%c"\\\127]', escaped) .. '"')
end

local function number_text(n)
  if n == floor(n) and n > -2 ^ 53 and n < 2 ^ 53 then
    return format("%d", n)
  end
  return tostring(n)
end

local show

local function show_table(state, t, indent)
  if state.open[t] then
    return "<cycle>"
  elseif indent >= DEPTH then
    return "{…}"
  end
  local iterable, step, over, first = pcall(pairs, t)
  if not iterable then -- keys without an order
    return "{<keys that are neither text nor number>}"
  end
  state.open[t] = true
  local items, width, lines, expected = {}, 0, false, 1
  for key, v in step, over, first do
    if state.made > MADE then
      state.cut = true
      items[#items + 1] = "…"
      break
    end
    local head = ""
    if key == expected then
      expected = expected + 1
    elseif name_like(key) then
      head = key .. " = "
    else
      head = "[" .. (type(key) == "string" and quoted(key) or tostring(key)) .. "] = "
    end
    local item = head .. show(state, v, indent + 1)
    items[#items + 1] = item
    width = width + #item + 2
    lines = lines or find(item, "\n", 1, true) ~= nil
  end
  state.open[t] = nil
  if #items == 0 then
    return "{}"
  elseif not lines and width + 2 * indent + 2 <= WIDTH then
    return "{" .. concat(items, ", ") .. "}"
  end
  local pad = rep("  ", indent + 1)
  return "{\n" .. pad .. concat(items, ",\n" .. pad) .. "\n" .. rep("  ", indent) .. "}"
end

function show(state, v, indent)
  local kind = type(v)
  local text
  if kind == "string" then
    text = quoted(v)
  elseif kind == "number" then
    text = number_text(v)
  elseif kind == "table" then
    return show_table(state, v, indent)
  elseif kind == "function" or kind == "thread" then
    text = "<" .. kind .. ">"
  else
    text = tostring(v) -- nil, booleans, null, 64-bit numbers
  end
  state.made = state.made + #text + 40 -- what keeping it costs, too
  return text
end

local function shown(n, ...)
  local state, parts, lines = { open = {}, made = 0 }, {}, false
  for i = 1, n do
    parts[i] = show(state, (select(i, ...)), 0)
    lines = lines or find(parts[i], "\n", 1, true) ~= nil
  end
  local text = concat(parts, lines and "\n" or ", ")
  if #text <= KEPT then
    return { text = text }
  end
  local kept = gsub(sub(text, 1, KEPT), "[\192-\255][\128-\191]*$", "") -- no half a character
  return { text = kept, more = #text - #kept, cut = state.cut }
end

--- Names for completion: what the session made, one level deep.
local function names()
  local list = {}
  for key, v in pairs(_G) do
    if name_like(key) and #list < NAMES then
      list[#list + 1] = key
      local fields = 0
      if type(v) == "table" and v ~= _G and pcall(pairs, v) then
        for field in pairs(v) do
          fields = fields + 1
          if fields > FIELDS then
            break
          elseif name_like(field) then
            list[#list + 1] = key .. "." .. field
          end
        end
      end
    end
  end
  return list
end

--- Texts of print go out as they come: they are seen also of an evaluation that is stopped.
print = function(...)
  local parts = {}
  for i = 1, select("#", ...) do
    local v = select(i, ...)
    parts[i] = type(v) == "string" and as_text(gsub(v, "%z", "\\000")) or show({ open = {}, made = 0 }, v, 0)
  end
  write("info", concat(parts, "\t"), { console = true })
end

-- An expression is the argument of a call, so that its own calls are no tail calls: those leave no
-- line for an error.
local function compile(text)
  local fn = load("return (...)(" .. text .. "\n)", "@console")
  if fn then
    return fn
  end
  local err
  fn, err = load(text, "@console")
  if not fn and find(text, "^%s*[%d({\"'#-]") then -- no statement begins like this
    fn, err = load("return " .. text, "@console")
  end
  return fn, err
end

local function pass(...)
  return ...
end

local function results(...)
  return { value = select("#", ...) > 0 and shown(select("#", ...), ...) or nil, names = names() }
end

---@param input {text: string}
---@return table {value={text, more?, cut?}?, names} | {failed={code, message}} of a text that is no Lua
function M.eval(input)
  local fn, err = compile((gsub(input.text, "^%s*=", "")))
  if not fn then
    return { failed = { code = "script_error", message = err } }
  end
  return results(fn(pass))
end

return M
