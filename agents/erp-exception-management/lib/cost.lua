--- What materials cost, in the currency of the plant's company.
local M = {}

--- cost(material, plant) -> Decimal a base unit, its currency; nil, reason when it is not known ("no_cost") or has no rate at
--- the key date ("no_rate"). A rule that calls it reads material_plant, plant, company and fx_rate.
---@param t table
---@return fun(material: string?, plant: string?): erp.Decimal?, string
function M.by_plant(t)
  return function(material, plant)
    local price, currency = t.unit_cost(material, plant)
    if price == nil then return nil, "no_cost" end
    local own = t.plant_currency(plant)
    local rate = t.fx(currency or own, own, t.as_of)
    if rate == nil then return nil, "no_rate" end
    return price * rate, own
  end
end

return M
