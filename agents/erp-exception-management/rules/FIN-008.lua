-- Tax that is not base times rate (erp-rules.md, FIN-008).
local VALID = { at = "tax_date", from = "valid_from", until_ = "valid_to" }
local OF_CODE = { "company_id", "doc_id", "fiscal_year", "tax_code" }

rule {
  id = "FIN-008",
  title = "Tax arithmetic error",
  category = "financial",
  params = {
    cent = { "decimal" }, -- NULL: the smallest unit of the currency
    tol_pct = { "decimal", "0" },
  },
  requires = { "tax_item.base_doc", "tax_item.tax_doc",
    { any = { "tax_item.expected_doc", { all = { "tax_item.tax_code", "tax_item.tax_date", "tax_code.rate" } } } } },
  reasons = { { "tax" } },
  reads = { "company", "fx_rate" },

  run = function(t, p, emit)
    local per_cent = t.decimal "0.01"

    -- The code is that of the company's country; of a company without country, that of the code itself.
    local items = t.tax_item:without { { "direct", "eq", true } }:need { "tax_doc" }
      :with("company", t.company, { "company_id" })
      :with("known", t.tax_code, { "tax_code" }):derive("country", "coalesce", "company.country", "known.country")
      :with("code", t.tax_code, { "tax_code", "country" }, VALID)

    -- An item that brings its expected tax needs no code, rate or base.
    local function lacking(column) return { { "all", { "expected_doc", "null" }, { column, "null" } } } end
    items = items:skip("no_base_doc", lacking "base_doc"):skip("no_tax_code", lacking "tax_code")
      :skip("no_tax_date", lacking "tax_date"):skip("no_rate", lacking "code.rate")
    t.population(items:count())

    items = items
      :derive("own", "const", "id", t.currency_cc):derive("cc", "coalesce", "company.currency", "own")
      :derive("money", "coalesce", "currency", "cc")
      :derive("cent", "by", { "money" }, "m", function(currency) return p.cent or t.smallest_unit(currency) end)
      :derive("allowed", "by", { "cent", "base_lines" }, "m", function(cent, lines) return cent * math.max(1, lines or 1) end)
      :derive("product", "times", "base_doc", "code.rate"):derive("exact", "times", "product", per_cent)
      :derive("computed", "round_to", "exact", "cent")
      :derive("expected", "coalesce", "expected_doc", "computed")
      :derive("over", "sub", "tax_doc", "expected"):derive("under", "sub", "expected", "tax_doc")
    local wrong = items:where { { "any", { "over", "gt", { "allowed" } }, { "under", "gt", { "allowed" } } } }

    -- Reverse charge: a document has the tax of the code twice, once with each sign.
    if t:has "tax_code.kind" and wrong:count() > 0 then
      local netted = items:where { { "code.kind", "eq", "reverse" } }:group(OF_CODE, { tax = { "sum", "tax_doc" } })
        :where { { "tax", "eq", 0 } }
      wrong = wrong:except(netted, OF_CODE)
    end

    for item in wrong:each() do
      local diff, expected = item.over, item.expected
      if t.exceeds(diff, expected, p.tol_pct) then
        emit {
          key = { item.company_id, item.doc_id, item.fiscal_year, item.line },
          reason = "tax",
          kind = "cash",
          impact = diff,
          currency = item.money,
          severity = { floor = diff:abs() > 100 and "medium" or nil },
          evidence = {
            base = item.base_doc, rate = item["code.rate"], tax = item.tax_doc, expected = expected, diff = diff,
            base_lines = item.base_lines, allowed = item.allowed, tax_code = item.tax_code, tax_date = t.iso(item.tax_date),
            direction = item.direction, partner_id = item.partner_id, currency = item.money, source = item.src,
          },
          explanation = ("Document %s, item %s: tax %s %s, expected %s, difference %s."):format(item.doc_id, item.line,
            tostring(item.tax_doc), item.money, tostring(expected), tostring(diff)),
        }
      end
    end
  end,
}
