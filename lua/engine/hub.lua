--- Events inside this process: the engine publishes, followers of this worker subscribe. What is
--- missed here is in the store; the hub holds nothing.

local M = {}

---@type table<string, table<fun(event: table), boolean>>
local listeners = {}

---@param execution_id string
---@param fn fun(event: table) must not yield
function M.subscribe(execution_id, fn)
  listeners[execution_id] = listeners[execution_id] or {}
  listeners[execution_id][fn] = true
end

---@param execution_id string
---@param fn fun(event: table)
function M.unsubscribe(execution_id, fn)
  local set = listeners[execution_id]
  if set then
    set[fn] = nil
    if next(set) == nil then
      listeners[execution_id] = nil
    end
  end
end

---@param execution_id string
---@param event table
function M.publish(execution_id, event)
  for fn in pairs(listeners[execution_id] or {}) do
    fn(event)
  end
end

--- Executions that are followed here.
---@return integer
function M.count()
  local n = 0
  for _ in pairs(listeners) do
    n = n + 1
  end
  return n
end

return M
