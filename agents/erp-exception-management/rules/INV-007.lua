-- Stock below nothing (erp-rules.md, INV-007).
local cost = require "cost"

local PLACE = { "material_id", "plant_id", "sloc", "batch", "special" }

-- Movements name the place and not the stock type: they tell the balance of a place that has one type only.
local function moved(t, rows)
  local places = t.stock:only(rows, { "material_id", "plant_id" }):group(PLACE, { types = { "count" } }):where { { "types", "eq", 1 } }
  return t.stock_move:where { { "posting_date", "notnull" } }:only(rows:only(places, PLACE), PLACE)
    :group({ "material_id", "plant_id", "sloc", "batch", "special", "posting_date" }, { qty = { "sum", "qty" }, moves = { "count" } })
end

-- The day since which the stock is negative, and the last days with movements. Back from the stock at D: what it was before a day
-- is what it was after it, less what was moved.
local function history_of(t, days, row, limit)
  local balance, since, last = row.qty, nil, {}
  for day in days:all(row.material_id, row.plant_id, row.sloc, row.batch, row.special):sort { "-posting_date" }:each() do
    if balance < limit then since = day.posting_date end
    if #last < 10 then last[#last + 1] = { date = t.iso(day.posting_date), qty = day.qty, balance = balance } end
    if not (balance < limit) then break end
    balance = balance - day.qty
  end
  return since, last
end

rule {
  id = "INV-007",
  title = "Negative stock",
  category = "inventory",
  params = {
    qty_tol = { "decimal", "0.0005" },
    history = { "flag", false },
  },
  requires = { "stock.qty" },
  reasons = { { "negative" } },
  reads = { "stock_move", "material_plant", "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local D = t.as_of
    local limit = -(p.qty_tol or t.zero)
    local all = t.stock:need { "qty" }
    t.population(all:count())

    local cost_of = cost.by_plant(t)
    local function found(row, qty, since, lowest_on, last)
      local price, currency = cost_of(row.material_id, row.plant_id)
      if price == nil then return t.skip(currency) end
      local allowed = row["plan.neg_allowed"] == true or row["site.neg_stock_allowed"] == true
      local days = since and D - since
      emit {
        key = { row.material_id, row.plant_id, row.sloc, row.batch, row.special, row.stock_type },
        reason = "negative",
        kind = "misstatement",
        impact = qty:abs() * price,
        currency = currency,
        severity = { step = days and days > 7 and 1 or 0, floor = not allowed and "high" or nil },
        evidence = {
          material_id = row.material_id, plant_id = row.plant_id, sloc = row.sloc, batch = row.batch, special = row.special,
          stock_type = row.stock_type, qty = qty, stock = row.qty, unit_cost = price, allowed = allowed, since = t.iso(since), days = days,
          lowest_on = t.iso(lowest_on), last_movements = last, source = row.src,
        },
        explanation = ("Material %s in plant %s, storage location %s: stock of %s%s."):format(row.material_id, row.plant_id, row.sloc,
          tostring(qty), lowest_on and " on " .. t.iso(lowest_on) or since and " since " .. t.iso(since) or ""),
      }
    end
    local function with_rights(rows)
      return rows:with("plan", t.material_plant, { "material_id", "plant_id" }):with("site", t.plant, { "plant_id" })
    end

    local negative = all:where { { "qty", "lt", limit } }
    local days = moved(t, negative):index(PLACE)
    for row in with_rights(negative):each() do
      local since, last = history_of(t, days, row, limit)
      found(row, row.qty, since, nil, last)
    end

    -- What is not negative now and was on a day: before a movement there was the stock less what was moved since.
    if p.history then
      local others = all:except(negative, { "material_id", "plant_id", "sloc", "batch", "special", "stock_type" })
      local below = moved(t, others):running { by = PLACE, order = { "-posting_date" }, qty = "qty", as = "since" }
        :with("now", others, PLACE)
        :derive("tolerance", "const", "q", -limit):derive("room", "add", "now.qty", "tolerance")
        :where { { "since", "gt", { "room" } } }
      local lowest = {}
      for day in below:each { "posting_date" } do
        local balance = day["now.qty"] - day.since
        local key = table.concat({ day.material_id, day.plant_id, day.sloc, day.batch, day.special }, "\0")
        if not lowest[key] or balance < lowest[key].balance then lowest[key] = { balance = balance, day = day.posting_date - 1 } end
      end
      for row in with_rights(others:only(below, PLACE)):each() do
        local low = lowest[table.concat({ row.material_id, row.plant_id, row.sloc, row.batch, row.special }, "\0")]
        found(row, low.balance, nil, low.day)
      end
    end
  end,
}
