-- The same invoice entered more than once (erp-rules.md, IMT-007; SAP's own duplicate check).
local invoices = require "invoices"

-- What is the same: a credit memo that takes one of the invoices back has the opposite amount.
local function credited(documents, duplicates)
  local memos = documents:where { { "kind", "eq", "credit_memo" }, { "gross", "lt", 0 } }
    :derive("ref", "norm", "reference"):derive("entered", "coalesce", "entry_date", "doc_date")
    :only(duplicates, { "vendor_id" })
  local ix = memos:index { "vendor_id", "currency", "gross" }
  return function(first)
    return ix:all(first.vendor_id, first.currency, -first.gross):sort { "entered", "invoice_id", "fiscal_year" }
  end
end

-- Each memo takes back the last invoice that was there when it came (else the first).
local function without_credited(members, memos, same)
  for memo in memos:each() do
    if #members > 0 and same(members[1], memo) then
      local at = 1
      for i, member in ipairs(members) do
        if memo.entered and member.entered and member.entered <= memo.entered then at = i end
      end
      table.remove(members, at)
    end
  end
  return members
end

-- Instalments of one invoice: entered on one day, due on different days.
local function instalments(members)
  local due = {}
  for _, member in ipairs(members) do
    local day = member.due_date
    if day == nil or due[day] or member.entered ~= members[1].entered then return false end
    due[day] = true
  end
  return true
end

rule {
  id = "IMT-007",
  title = "Duplicate invoice, exact",
  category = "invoice_matching",
  params = {
    scope = { "enum", "company", values = { "company", "group" } },
    min_gross = { "decimal", "0" },
    include_parked = { "flag", false },
  },
  requires = { "invoice.vendor_id", "invoice.doc_date", "invoice.gross", "invoice.currency" },
  reasons = { { "exact", needs = { "invoice.reference" } }, { "no_reference" } },
  reads = { "invoice_line", "fx_rate" },

  run = function(t, p, emit)
    local documents = invoices.documents(t, p)
    local all = documents:where { { "kind", "eq", "invoice" } }
      :need { "vendor_id", "doc_date", "gross", "currency" }
      :where { { "gross", "gt", 0 } }
    if p.min_gross then all = all:where { { "gross", "ge", p.min_gross } } end
    all = all:derive("ref", "norm", "reference"):derive("entered", "coalesce", "entry_date", "doc_date")
    t.population(all:count())

    local function find(reason, candidates, keys)
      if p.scope == "company" then table.insert(keys, 1, "company_id") end
      local several = candidates:group(keys, { n = { "count" } }):where { { "n", "ge", 2 } }
      local duplicates = candidates:only(several, keys)
      local memos_of = credited(documents, duplicates)
      local po_of = t.invoice_line:only(duplicates, { "invoice_id", "fiscal_year" }):where { { "po_id", "notnull" } }
        :index { "invoice_id", "fiscal_year" }
      local function same(member, memo)
        return member.ref == memo.ref and (p.scope == "group" or member.company_id == memo.company_id)
          and (reason == "exact" or member.doc_date == memo.doc_date)
      end
      local function po(member)
        local line = po_of:get(member.invoice_id, member.fiscal_year)
        return line and line.po_id or member.po_id
      end

      local groups = duplicates:group(keys)
      for group in groups:each() do
        local members = {}
        for row in groups:rows_of(group, { "entered", "invoice_id", "fiscal_year" }):each() do members[#members + 1] = row end
        without_credited(members, memos_of(members[1]), same)
        if #members >= 2 and not instalments(members) then
          local first, impact, paid, list = members[1], t.zero, 0, {}
          for i, member in ipairs(members) do
            if i > 1 then impact = impact + member.gross end
            if member.status == "paid" then paid = paid + 1 end
            if i <= 10 then
              list[i] = { invoice_id = member.invoice_id, fiscal_year = member.fiscal_year, entered = t.iso(member.entered),
                created_by = member.created_by, status = member.status, pay_date = t.iso(member.pay_date), po_id = po(member),
                source = member.src }
            end
          end
          local key = { first.invoice_id, first.fiscal_year or "" }
          emit {
            key = key,
            overlap = { "INV", key[1], key[2] },
            reason = reason,
            kind = paid >= 2 and "cash" or "exposure",
            impact = impact,
            currency = first.currency,
            severity = reason == "exact" and { floor = paid >= 2 and "high" or nil } or { step = -1 },
            evidence = { vendor_id = first.vendor_id, reference = first.reference, doc_date = t.iso(first.doc_date),
              gross = first.gross, currency = first.currency, count = #members, paid = paid, excess = impact, invoices = list },
            explanation = ("%d invoices of vendor %s dated %s over %s %s%s, %d of them paid."):format(#members, first.vendor_id,
              t.iso(first.doc_date), tostring(first.gross), first.currency,
              reason == "exact" and " with reference " .. first.reference or " without reference", paid),
          }
        end
      end
    end

    if t.runs.exact then
      find("exact", all:where { { "ref", "notnull" } }, { "vendor_id", "currency", "ref", "doc_date", "gross" })
    end
    find("no_reference", all:where { { "ref", "null" } }, { "vendor_id", "currency", "doc_date", "gross" })
  end,
}
