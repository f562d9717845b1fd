--- Working days of the calendars of plants.
local M = {}

--- The calendars of the data set. A day that its calendar does not have, or of no calendar, is a working day.
---@param t table
---@return { after: fun(id: string?, day: integer, n: integer): integer, between: fun(id: string?, from: integer, to: integer): integer }
function M.working(t)
  local free = {} -- calendar -> day -> true
  for row in t.calendar_day:where { { "working", "eq", false } }:each() do
    free[row.calendar_id] = free[row.calendar_id] or {}
    free[row.calendar_id][row.date] = true
  end
  local none = {}

  --- Working days after `from` up to `to`.
  local function between(id, from, to)
    local off, n = free[id] or none, 0
    for day = from + 1, to do
      if not off[day] then n = n + 1 end
    end
    return n
  end

  --- The last day with no more than n working days after `day`.
  local function after(id, day, n)
    local off = free[id] or none
    while true do
      if not off[day + 1] then
        if n == 0 then return day end
        n = n - 1
      end
      day = day + 1
    end
  end
  return { after = after, between = between }
end

return M
