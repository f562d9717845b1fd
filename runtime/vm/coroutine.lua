-- coroutine.resume and coroutine.wrap for code that runs inside a task.
--
-- A task waits by yielding a private mark to the run queue. Inside a coroutine that the task's own
-- code made, that yield would end up at the coroutine's resumer; these wrappers pass it outwards
-- until it reaches the run queue, and pass what the run queue answers back inwards. In a script VM
-- the end of a time slice is a yield without values from any instruction; `sliced` tells it from
-- the script's own yield(), and the coroutine is resumed as if nothing had happened.
-- Arguments: the mark, sliced() -> boolean; returns the new resume and wrap.

local mark, sliced = ...
local raw_resume, yield, create = coroutine.resume, coroutine.yield, coroutine.create
local error, type, select = error, type, select

local pass
local function go_on(co, ...)
  return pass(co, raw_resume(co, ...))
end

function pass(co, ok, ...)
  if ok then
    if select("#", ...) == 0 then
      if sliced() then
        return go_on(co)
      end
    elseif (...) == mark then
      return go_on(co, yield(mark))
    end
  end
  return ok, ...
end

local function resume(co, ...)
  return pass(co, raw_resume(co, ...))
end

local function unwrap(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

local function wrap(fn)
  if type(fn) ~= "function" then
    error("bad argument #1 to 'wrap' (function expected, got " .. type(fn) .. ")", 2)
  end
  local co = create(fn)
  return function(...)
    return unwrap(pass(co, raw_resume(co, ...)))
  end
end

return resume, wrap
