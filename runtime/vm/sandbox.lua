-- The Lua half of a sandbox: what a script or a rule calls, made of stock functions and C parts.
-- c: the C parts (sandbox.c). Returns the functions that replace stock ones:
-- {base = {…}, table = {…}, string = {…}}.

local c = ...
local error, pcall, rawget, select, type = error, pcall, rawget, select, type
local concat, floor = table.concat, math.floor
local keys_of = c.keys

local M = { base = {}, table = {}, string = {} }


function M.base.pairs(t)
  local keys = keys_of(t)
  local i = 0
  return function()
    while true do
      i = i + 1
      local k = keys[i]
      if k == nil then
        return nil
      end
      local v = rawget(t, k)
      if v ~= nil then
        return k, v
      end
    end
  end, t, nil
end


-- Without addresses, which differ from run to run; and __tostring is called from here, not from C,
-- so that a slice can end inside it.
local plain_tostring, meta, stock_tostring = c.plain_tostring, c.meta, tostring

local function tostring(v)
  local kind = type(v)
  if kind == "number" or kind == "string" or kind == "boolean" or kind == "nil" then
    return stock_tostring(v) -- compiled where there is a JIT
  end
  local method = meta(v, "__tostring")
  if method then
    return method(v)
  end
  return plain_tostring(v)
end
M.base.tostring = tostring


-- The stock xpcall runs the handler where the error was raised, and there nothing can stop it.
local function finish(handler, ok, ...)
  if ok then
    return ok, ...
  end
  return false, handler(...)
end

function M.base.xpcall(fn, handler, ...)
  if type(handler) ~= "function" then
    error("bad argument #2 to 'xpcall' (function expected, got " .. type(handler) .. ")", 2)
  end
  return finish(handler, pcall(fn, ...))
end


-- Merge sort: stable, and in Lua, so that a slice can end inside it. A short list without a
-- comparison of the script's own is left to the stock function.
local stock_sort = table.sort

local function less_than(a, b)
  return a < b
end

local function plain(t, n)
  local kind = type(rawget(t, 1))
  if kind ~= "number" and kind ~= "string" then
    return false
  end
  for i = 2, n do
    if type(rawget(t, i)) ~= kind then
      return false
    end
  end
  return true
end

function M.table.sort(t, less)
  if type(t) ~= "table" then
    error("bad argument #1 to 'sort' (table expected, got " .. type(t) .. ")", 2)
  end
  if less ~= nil and type(less) ~= "function" then
    error("bad argument #2 to 'sort' (function expected, got " .. type(less) .. ")", 2)
  end
  local n = #t
  if not less and n <= 4096 and plain(t, n) then
    return stock_sort(t)
  end
  less = less or less_than
  local from, to = t, {}
  local width = 1
  while width < n do
    for low = 1, n, 2 * width do
      local mid, high = low + width, low + 2 * width
      if mid > n + 1 then
        mid = n + 1
      end
      if high > n + 1 then
        high = n + 1
      end
      local a, b = low, mid
      for k = low, high - 1 do
        if a < mid and (b >= high or not less(from[b], from[a])) then
          to[k] = from[a]
          a = a + 1
        else
          to[k] = from[b]
          b = b + 1
        end
      end
    end
    if from == t then
      from, to = to, {}
    else
      from, to = to, from
    end
    width = 2 * width
  end
  if from ~= t then
    for i = 1, n do
      t[i] = from[i]
    end
  end
end


local scan, gsub_text = c.scan, c.gsub_text
if scan then
  local sub = string.sub


  function M.string.gmatch(s, pattern)
    local at = 1
    s, pattern = s .. "", pattern .. "" -- numbers too, and errors where they belong
    return function()
      if at > #s + 1 then
        return nil
      end
      local function step(first, last, ...)
        if not first then
          at = #s + 2
          return nil
        end
        at = last >= first and last + 1 or last + 2
        return ...
      end
      return step(scan(s, pattern, at, false))
    end
  end

  local format = c.format

  -- What only tostring can show is shown by ours.
  local function shown(i, n, v, ...)
    if i > n then
      return
    end
    local kind = type(v)
    if kind ~= "string" and kind ~= "number" and kind ~= "cdata" then
      v = tostring(v)
    end
    return v, shown(i + 1, n, ...)
  end

  function M.string.format(f, ...)
    return format(f, shown(1, select("#", ...), ...))
  end

  local function pick(replacement, whole, ...)
    local value
    if type(replacement) == "table" then
      value = replacement[(...)]
    else
      value = replacement(...)
    end
    if not value then
      return whole
    end
    local kind = type(value)
    if kind ~= "string" and kind ~= "number" then
      error("invalid replacement value (a " .. kind .. ")", 3)
    end
    return value
  end

  -- A function or a table as replacement: the loop is in Lua, so that both may wait and be stopped.
  local function gsub_each(s, pattern, replacement, max)
    local out, done, at, len = {}, 0, 1, #s
    local anchored, one = sub(pattern, 1, 1) == "^", type(replacement) == "table"
    if anchored then
      pattern = sub(pattern, 2)
    end
    local function step(first, last, ...)
      if not first then
        return false
      end
      out[#out + 1] = sub(s, at, first - 1)
      done = done + 1
      out[#out + 1] = pick(replacement, sub(s, first, last), ...)
      if last >= first then
        at = last + 1
      else
        out[#out + 1] = sub(s, first, first)
        at = first + 1
      end
      return not anchored
    end
    while done < max and at <= len + 1 and step(scan(s, pattern, at, anchored, one)) do
    end
    out[#out + 1] = sub(s, at)
    return concat(out), done
  end

  function M.string.gsub(s, pattern, replacement, max)
    local kind = type(replacement)
    s, pattern = s .. "", pattern .. ""
    max = max and floor(max) or #s + 1
    if kind == "function" or kind == "table" then
      return gsub_each(s, pattern, replacement, max)
    elseif kind ~= "string" and kind ~= "number" then
      error("bad argument #3 to 'gsub' (string/function/table expected, got " .. kind .. ")", 2)
    end
    local text, done, at = gsub_text(s, pattern, replacement, max, 0, 1)
    if not at then
      return text, done
    end
    local out = { text }
    repeat
      text, done, at = gsub_text(s, pattern, replacement, max, done, at)
      out[#out + 1] = text
    until not at
    return concat(out), done
  end
end

return M
