--- Approval limits of table approval_policy. A row without company or document type stands for all of them; so does, for an
--- order that names no company, every row.
local M = {}

---@class Level
---@field from erp.Decimal value from which the level is asked for, in the company's currency
---@field limit erp.Decimal? what its approver may approve, in the company's currency; nil: anything

--- levels(company, doc_type, currency, day): the levels that apply to an order, by value. Where orders have no document types
--- at all, or doc_type is false, those of all types. An
--- amount in another currency is taken at the rate of that day, to four digits; without a rate its level is left out.
---@param t table
---@return fun(company: string, doc_type: string|false|nil, currency: string, day: integer?): Level[]
function M.levels(t)
  local rows, known = {}, {}
  for row in t.approval_policy:each { "min_amount", "company_id", "doc_type", "level" } do rows[#rows + 1] = row end
  local function in_currency(amount, from, to, day)
    if amount == nil or from == nil or from == to then return amount end
    local rate = t.fx(from, to, day)
    return rate and (amount * rate):round(4)
  end
  local typed = t:has "purchase_order.doc_type"
  return function(company, doc_type, currency, day)
    if not typed then doc_type = false end
    local key = ("%s|%s|%s|%s"):format(company, tostring(doc_type), currency, tostring(day))
    local list = known[key]
    if list then return list end
    list = {}
    for _, row in ipairs(rows) do
      local same_company = row.company_id == "" or company == "" or row.company_id == company
      local same_type = doc_type == false or row.doc_type == "" or row.doc_type == doc_type
      local from = in_currency(row.min_amount or t.zero, row.currency, currency, day)
      if same_company and same_type and from then
        list[#list + 1] = { from = from, limit = in_currency(row.approver_limit, row.currency, currency, day) }
      end
    end
    table.sort(list, function(a, b) return a.from < b.from end)
    known[key] = list
    return list
  end
end

--- The level that a value asks for: the highest that it reaches.
---@param levels Level[]
---@param value erp.Decimal
---@return Level?
function M.asked_for(levels, value)
  local level
  for _, l in ipairs(levels) do
    if value >= l.from then level = l end
  end
  return level
end

return M
