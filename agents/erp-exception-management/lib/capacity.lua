--- Load and capacity of work centers by ISO week, shared by PRD-005 and PRD-006.
local M = {}

--- What the load needs (erp-rules.md 2.9), by mode.
function M.requires(p)
  if p.mode == "history" then
    return { "work_center.hours_per_week", "prod_operation.actual_hours", "prod_operation.start_actual" }
  end
  return { "work_center.hours_per_week", "prod_operation.plan_hours", "prod_operation.start_plan", "prod_operation.finish_plan" }
end

--- Hours of operations by week: one row an operation and week, with columns week (its Monday) and
--- part (hours), and those of prod_operation.
---   history: actual hours of operations begun by D, by actual dates as loaded (an operation that
---            ends after D keeps the end it has), in weeks complete before D
---   forward: planned hours of operations that are not done, of orders that are not finished
---@param t table
---@param p table mode, spread
---@param first integer? Monday of the first week wanted (nil: all weeks)
---@param last integer? Monday of the last one
---@return erp.Table
function M.load(t, p, first, last)
  local D, even = t.as_of, p.spread == "even"
  -- Operations that touch the weeks wanted, and of their parts those in these weeks.
  local function touching(tab, start, finish)
    if not first then return tab end
    return tab:where { { start, "le", last + 6 }, { "any", { finish, "null" }, { finish, "ge", first }, { start, "ge", first } } }
  end
  local function inside(parts) return first and parts:where { { "week", "ge", first }, { "week", "le", last } } or parts end

  if p.mode == "history" then
    local begun = t.prod_operation:as_loaded():where { { "start_actual", "le", D } }
    return inside(touching(begun, "start_actual", "finish_actual"):need { "actual_hours" }
      :spread { start = "start_actual", finish = "finish_actual", amount = "actual_hours", until_ = D, even = even }
      :where { { "week", "lt", D - 6 } })
  end
  return inside(touching(t.prod_operation:without { { "done", "eq", true } }, "start_plan", "finish_plan")
    :with("order", t.production_order, { "order_id" })
    :without { { "order.status", "in", { "confirmed", "delivered", "teco", "closed", "cancelled" } } }
    :need { "plan_hours", "start_plan" }
    :spread { start = "start_plan", finish = "finish_plan", amount = "plan_hours", until_ = D, even = even })
end

--- Working days of calendars by week: calendar_id, week (its Monday), working.
---@param t table
---@param first integer? Monday of the first week wanted (nil: all weeks)
---@param last integer? Monday of the last one
---@return erp.Table
function M.working_days(t, first, last)
  local days = t.calendar_day
  if first then days = days:where { { "date", "ge", first }, { "date", "le", last + 6 } } end
  return days:derive("week", "iso_week", "date")
    :group({ "calendar_id", "week" }, { working = { "count", where = { { "working", "eq", true } } } })
end

--- Load by work center and week: columns work_center_id, week, hours, operations, center.*, and
--- capacity: hours_per_week * working days / 5, by the center's calendar. A week in which the
--- calendar has no day at all counts in full. Centers without hours are skipped.
---@param t table
---@param load erp.Table
---@return erp.Table
function M.weeks(t, load)
  local days = M.working_days(t)
  return load:group({ "work_center_id", "week" }, { hours = { "sum", "part" }, operations = { "count" } })
    :with("center", t.work_center, { "work_center_id" })
    :need { "center.hours_per_week" }
    :with("calendar", days, { calendar_id = "center.calendar_id", week = "week" })
    :derive("five", "const", "n", 5):derive("working", "coalesce", "calendar.working", "five")
    :derive("week_hours", "times", "center.hours_per_week", "working")
    :derive("capacity", "times", "week_hours", t.decimal "0.2")
end

return M
