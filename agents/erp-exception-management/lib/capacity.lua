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
---@return erp.Table
function M.load(t, p)
  local D, even = t.as_of, p.spread == "even"
  if p.mode == "history" then
    return t.prod_operation:as_loaded():where { { "start_actual", "le", D } }:need { "actual_hours" }
      :spread { start = "start_actual", finish = "finish_actual", amount = "actual_hours", until_ = D, even = even }
      :where { { "week", "lt", D - 6 } }
  end
  return t.prod_operation:without { { "done", "eq", true } }
    :with("order", t.production_order, { "order_id" })
    :without { { "order.status", "in", { "confirmed", "delivered", "teco", "closed", "cancelled" } } }
    :need { "plan_hours", "start_plan" }
    :spread { start = "start_plan", finish = "finish_plan", amount = "plan_hours", until_ = D, even = even }
end

--- Load by work center and week: columns work_center_id, week, hours, operations, center.*, and
--- capacity: hours_per_week * working days / 5, by the center's calendar. A week in which the
--- calendar has no day at all counts in full. Centers without hours are skipped.
---@param t table
---@param load erp.Table
---@return erp.Table
function M.weeks(t, load)
  local days = t.calendar_day:derive("week", "iso_week", "date")
    :group({ "calendar_id", "week" }, { working = { "count", where = { { "working", "eq", true } } } })
  return load:group({ "work_center_id", "week" }, { hours = { "sum", "part" }, operations = { "count" } })
    :with("center", t.work_center, { "work_center_id" })
    :need { "center.hours_per_week" }
    :with("calendar", days, { calendar_id = "center.calendar_id", week = "week" })
    :derive("five", "const", "n", 5):derive("working", "coalesce", "calendar.working", "five")
    :derive("week_hours", "times", "center.hours_per_week", "working")
    :derive("capacity", "times", "week_hours", t.decimal "0.2")
end

return M
