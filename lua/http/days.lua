-- The window of a list: start_date and end_date are UTC days, both inclusive.

local clock = require "kt.clock"
local problem = require "http.problem"
local rfc3339 = require "http.rfc3339"
local T = require "http.types"

local M = {}

local DAY = 86400000
local DAYS = 30

-- The two fields of a query.
M.query = {
  {"start_date", T.date, doc = "first UTC day; when absent 29 days before the last one"},
  {"end_date", T.date, doc = "last UTC day; when absent today"},
}

---@param query {start_date: string?, end_date: string?} checked
---@return integer|nil from ms UTC, inclusive
---@return integer|kontor.Error before ms UTC, exclusive; or the error
function M.window(query)
  local last = query.end_date and rfc3339.parse_date(query.end_date) or math.floor(clock.now() / DAY) * DAY
  local first = query.start_date and rfc3339.parse_date(query.start_date) or last - (DAYS - 1) * DAY
  if first > last then
    return nil, problem.field({parameter = "start_date"}, "invalid", "is after end_date"
      .. (query.end_date and "" or ", which is today when it is absent"))
  end
  return first, last + DAY
end

return M
