--- Companies, vendors and materials of the clean company. Methods of erp.demo.World.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"

---@class erp.demo.World
local M = {}
local floor, format = math.floor, string.format
local date, money = calendar.text, base.money
local vendor_id, material_id, box = base.vendor_id, base.material_id, base.box

local FIRST = { "Nord", "Sued", "Elbe", "Alster", "Hansa", "Baltic", "Weser", "Harbor", "Prime", "Delta", "Union", "Atlas" }
local LAST = { "Metal", "Tooling", "Bearings", "Plastics", "Electric", "Fasteners", "Logistics", "Chemicals", "Castings", "Supply" }

--- Tables that do not depend on n.
function M:write_basics(out)
  for _, c in ipairs(base.companies) do
    out.company:row { company_id = c.id, name = c.name, currency = c.currency, country = c.country }
    out.plant:row { plant_id = c.plant, company_id = c.id, calendar_id = base.calendar_id, neg_stock_allowed = 0 }
    out.currency:row { currency = c.currency, decimals = base.decimals[c.currency] }
    out.tax_code:row { country = c.country, tax_code = c.tax_code, valid_from = "2000-01-01", rate = c.tax, kind = "input" }
    -- A reduced rate that rose by one per cent in the middle of the history, and reverse charge.
    local rise = self.D - 200
    out.tax_code:row { country = c.country, tax_code = "IR", valid_from = "2000-01-01", valid_to = date(rise - 1), rate = 5, kind = "input" }
    out.tax_code:row { country = c.country, tax_code = "IR", valid_from = date(rise), rate = 6, kind = "input" }
    out.tax_code:row { country = c.country, tax_code = "RC", valid_from = "2000-01-01", rate = c.tax, kind = "reverse" }
    local limit = c.currency == "JPY" and 750000 or 500000
    out.approval_policy:row { company_id = c.id, doc_type = "NB", level = 1, min_amount = money(limit, c.currency),
      currency = c.currency, approver_limit = money(limit * 100000, c.currency) }
    -- Framework orders are approved on two levels; what is above the second has no approver.
    for level = 1, 2 do
      out.approval_policy:row { company_id = c.id, doc_type = "FO", level = level, min_amount = money(limit * (level == 1 and 1 or 4), c.currency),
        currency = c.currency, approver_limit = money(limit * (level == 1 and 4 or 20), c.currency) }
    end
  end
  for _, from in ipairs { "EUR", "JPY", "USD" } do
    for _, to in ipairs { "EUR", "JPY", "USD" } do
      if from ~= to then
        for day = self.first - 30, self.D, 28 do
          out.fx_rate:row { rate_type = "M", from_cur = from, to_cur = to, valid_from = date(day), rate = base.rate_text(from, to) }
        end
      end
    end
  end
  for day = self.first - 400, self.D + 400 do
    out.calendar_day:row { calendar_id = base.calendar_id, date = date(day), working = base.is_working(day) and 1 or 0 }
  end
end

function M:vendor_row(v)
  local country = base.companies[self:home(v)].country
  return { vendor_id = vendor_id(v), name = format("%s %s %d", FIRST[self.vendor_draw(v, 2, #FIRST) + 1],
      LAST[self.vendor_draw(v, 3, #LAST) + 1], v), country = country, status = "active", approved_from = "2015-01-01",
    rating = self.vendor_draw(v, 4, 3) + 1, tax_id = format("%s%09d", country, v * 7 + 100000000),
    bank_key = format("BK%08d", v), one_time = 0, intercompany = 0, role_supplier = 1, po_required = 0 }
end

function M:write_masters(out)
  for v = 1, self.vendors do
    out.vendor:row(self:vendor_row(v))
    local currency = base.companies[self:home(v)].currency
    out.vendor_cert:row { vendor_id = vendor_id(v), cert_type = "ISO9001", valid_from = "2015-01-01", valid_to = "2035-12-31", mandatory = 1 }
    if v % 3 == 0 then
      out.vendor_cert:row { vendor_id = vendor_id(v), cert_type = "ISO14001", valid_from = "2015-01-01", valid_to = "2018-12-31", mandatory = 0 }
    end
    local agreed = self:vendor_material(v, 0)
    out.contract:row { contract_id = base.contract_id(v), line = "10", vendor_id = vendor_id(v), kind = "quantity", valid_from = "2015-01-01",
      valid_to = "2035-12-31", target_qty = 100000000, currency = currency, material_id = material_id(agreed),
      price = money(self:unit_price(agreed, currency) * 100, currency), price_unit = 100, uom = "EA", deleted = 0 }
    for k = 0, base.vendor_materials - 1 do
      local m = self:vendor_material(v, k)
      if m % 10 == 0 then -- a material with a source list: all who may deliver it are in it
        for _, c in ipairs(base.companies) do
          out.source_list:row { material_id = material_id(m), plant_id = c.plant, vendor_id = vendor_id(v), valid_from = "2015-01-01", blocked = 0 }
        end
      end
      out.vendor_price:row { vendor_id = vendor_id(v), material_id = material_id(m), valid_from = "2015-01-01",
        price = money(self:unit_price(m, currency), currency), price_unit = 1, uom = "EA", currency = currency }
    end
  end
  for m = 1, self.materials do
    local id = material_id(m)
    out.material:row { material_id = id, type = m % 4 == 0 and "FERT" or "ROH", base_uom = "EA", group = format("G%02d", m % 30),
      abc = m % 10 == 0 and "A" or m % 3 == 0 and "B" or "C", procurement = m % 4 == 0 and "make" or "buy", batch_managed = 0,
      valuated = 1, first_receipt = date(self.first) }
    if box(m) > 1 then out.uom_conv:row { material_id = id, from_uom = "BOX", to_uom = "EA", num = 10, den = 1 } end
    for index, c in ipairs(base.companies) do
      local reorder = 10 + self.stock_draw(m, index, 90)
      out.material_plant:row { material_id = id, plant_id = c.plant, safety_stock = floor(reorder / 2), reorder_point = reorder,
        lead_time_days = 20, unit_cost = money(self:unit_price(m, c.currency), c.currency), price_unit = 1, currency = c.currency }
    end
  end
end

return M
