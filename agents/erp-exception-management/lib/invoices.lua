--- What the invoice rules (IMT) share: which documents take part.
local M = {}

--- Invoices and credit memos that count: posted, blocked or paid (parked ones when asked for), and
--- neither reversed nor a reversal.
---@param t table
---@param p table parameters with include_parked
---@return erp.Table
function M.documents(t, p)
  local status = { "posted", "blocked", "paid" }
  if p.include_parked then status[4] = "parked" end
  local all = t.invoice
  local reversals = all:where { { "reverses", "notnull" } }
  local documents = all:where { { "status", "in", status }, { "reversed_by", "null" }, { "reverses", "null" } }
  if not all.has.reverses then return documents end
  -- A link may be kept on the reversal alone. It names an invoice of its own year, if there is one.
  local same_year = { company_id = "company_id", reverses = "invoice_id", fiscal_year = "fiscal_year" }
  local any_year = { company_id = "company_id", reverses = "invoice_id" }
  local of_year = { company_id = "company_id", invoice_id = "reverses", fiscal_year = "fiscal_year" }
  return documents:except(reversals, same_year):except(reversals:except(all, of_year), any_year)
end

return M
