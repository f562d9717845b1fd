--- Amounts in the currency of a company.
local M = {}

--- tab with the columns cc, the currency of the row's company (the data set's where it is not known), money, the currency of
--- the row (none: cc), and rate, of money into cc on the row's date (NULL: there is none).
---@param t table
---@param tab erp.Table
---@param names { company: string?, currency: string, date: string } columns of tab
---@return erp.Table
function M.with_rate(t, tab, names)
  tab = tab:with("company", t.company, { company_id = names.company or "company_id" })
    :derive("own", "const", "id", t.currency_cc):derive("cc", "coalesce", "company.currency", "own")
    :derive("money", "coalesce", names.currency, "cc")
  return M.rate_of(t, tab, "money", names.date, "rate")
end

--- tab with one more column: the rate of the currency in `currency` into cc on a date; NULL: there is none.
---@return erp.Table
function M.rate_of(t, tab, currency, date, name)
  return tab:derive(name, "by", { currency, "cc", date }, "r", function(from, to, day)
    if from == to then return 1 end
    return t.fx(from, to, day)
  end)
end

return M
