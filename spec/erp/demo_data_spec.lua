local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local generator = require "erp.demo.generator"
local random = require "erp.demo.random"

-- The company in memory: file -> text.
local function generate(opts)
  local files = {}
  local result = generator.write(function(name)
    local parts = {}
    return {
      write = function(_, text) parts[#parts + 1] = text end,
      close = function()
        files[name] = table.concat(parts)
        return "", #files[name]
      end,
    }
  end, { seed = opts.seed or "1", n = opts.n or 300, as_of = calendar.parse(opts.as_of or generator.AS_OF),
    per_million = opts.per_million or 2000, decoys_per_case = 3, rules = opts.rules })
  return files, result
end

local function rows(text)
  local names, list = nil, {}
  for line in text:gmatch("[^\n]+") do
    local cells = {}
    for cell in (line .. ","):gmatch("([^,]*),") do cells[#cells + 1] = cell end
    if not names then
      names = cells
    else
      local row = {}
      for i, name in ipairs(names) do row[name] = cells[i] end
      list[#list + 1] = row
    end
  end
  return list
end

describe("random numbers", function()
  it("are a function of seed, table, row and draw alone", function()
    local a, b = random.stream("42", 3), random.stream("42", 3)
    for row = 1, 50 do assert.equal(a(row, 1, 1000), b(row, 1, 1000)) end
    local other, differs = random.stream("43", 3), 0
    for row = 1, 50 do differs = differs + (other(row, 1, 1000) ~= a(row, 1, 1000) and 1 or 0) end
    assert.is_true(differs > 40)
  end)

  it("fill their range", function()
    local draw, seen = random.stream("7", 1), {}
    for row = 1, 500 do
      local v = draw(row, 2, 10)
      assert.is_true(v >= 0 and v < 10 and v % 1 == 0)
      seen[v] = true
    end
    for v = 0, 9 do assert.is_true(seen[v]) end
  end)

  it("take a seed of 64 bits and no other", function()
    assert.is_true(generator.valid_seed "18446744073709551615")
    for _, seed in ipairs { "18446744073709551616", "-1", "1.5", "", "a" } do assert.is_false(generator.valid_seed(seed), seed) end
  end)
end)

describe("amounts", function()
  it("are converted exactly, half away from zero", function()
    assert.equal(110, base.convert(100, "EUR", "USD"))
    assert.equal(1, base.convert(1, "JPY", "USD")) -- 0.67 cents
    assert.equal(-1, base.convert(-1, "JPY", "USD"))
    assert.equal(1, base.convert(1, "USD", "JPY")) -- 1.49 yen
  end)

  it("fall into bands before they are rounded", function()
    assert.equal(0, base.band(99999, "USD"))
    assert.equal(1, base.band(100000, "USD"))
    assert.equal(3, base.band(10000000, "USD"))
    assert.equal(0, base.band(90909, "EUR")) -- 999.999
    assert.equal(1, base.band(90910, "EUR"))
  end)
end)

describe("the demo company", function()
  it("is the same for the same seed and another for another", function()
    local a, b, c = generate {}, generate {}, generate { seed = "2" }
    local differ = 0
    for name, text in pairs(a) do
      assert.equal(text, b[name], name)
      if text ~= c[name] then differ = differ + 1 end
    end
    assert.is_true(differ > 15)
  end)

  it("has one row a key, but for the planted repeated row", function()
    local schema = require "erp.schema"
    local files = generate {}
    for name, text in pairs(files) do
      local def = schema.tables[name:gsub("%.csv$", "")]
      if def then
        local seen, twice = {}, 0
        for _, row in ipairs(rows(text)) do
          local key = {}
          for _, column in ipairs(def.columns) do
            if column.key then key[#key + 1] = row[column.name] or "" end
          end
          key = table.concat(key, "|")
          if seen[key] then twice = twice + 1 end
          seen[key] = true
        end
        if name ~= "invoice.csv" then assert.equal(0, twice, name) end
      end
    end
  end)

  it("has columns of the canonical schema only", function()
    local schema = require "erp.schema"
    for name, list in pairs(require "erp.demo.columns") do
      if name ~= "labels" then
        assert.is_table(schema.tables[name], name)
        for _, column in ipairs(list) do assert.is_table(schema.tables[name].column[column], name .. "." .. column) end
      end
    end
  end)

  it("balances: lines to orders, receipts to lines, moves to stock", function()
    local files = generate { n = 600, per_million = 0 }
    local net, lines = {}, {}
    for _, line in ipairs(rows(files["po_line.csv"])) do
      net[line.po_id] = (net[line.po_id] or 0) + tonumber((line.net_value:gsub("%.", "")))
      lines[line.po_id .. "|" .. line.line] = tonumber(line.qty)
    end
    for _, po in ipairs(rows(files["purchase_order.csv"])) do
      assert.equal(tonumber((po.net_value:gsub("%.", ""))), net[po.po_id], po.po_id)
    end
    local received = {}
    for _, gr in ipairs(rows(files["goods_receipt.csv"])) do
      local key = gr.po_id .. "|" .. gr.line
      received[key] = (received[key] or 0) + tonumber(gr.qty)
      assert.is_true(received[key] <= lines[key], key)
      assert.is_true(gr.posting_date <= generator.AS_OF)
    end
    local moved = {}
    for _, move in ipairs(rows(files["stock_move.csv"])) do
      local key = move.material_id .. "|" .. move.plant_id
      moved[key] = (moved[key] or 0) + tonumber(move.qty)
    end
    for _, stock in ipairs(rows(files["stock.csv"])) do
      local key = stock.material_id .. "|" .. stock.plant_id
      assert.equal(tonumber(stock.qty), moved[key] or 0, key)
      assert.is_true(tonumber(stock.qty) > 0)
    end
  end)

  it("labels each reason and trap of every rule, keys once", function()
    local files, result = generate { n = 3000 }
    local seen, reasons, traps = {}, {}, {}
    local last = ""
    for _, label in ipairs(rows(files["labels.csv"])) do
      local key = label.rule_id .. " " .. label.finding_key
      assert.is_nil(seen[key], key)
      assert.is_true(last < key)
      seen[key], last = true, key
      if label.must == "fire" then
        reasons[label.rule_id .. "." .. label.reason] = true
        assert.matches("^%-?%d+%.?%d*$", label.impact_amount)
      else
        traps[label.trap] = true
      end
    end
    for _, reason in ipairs { "IMT-007.exact", "IMT-007.no_reference", "INV-001.stock_out", "PRD-005.overload", "FIN-008.tax",
      "OFU-004.late", "PRO-002.cert", "PRO-002.rating", "PRO-002.source_list", "PRO-002.self_approval", "PRO-005.rejected",
      "INV-002.reorder", "INV-002.safety", "INV-007.negative", "PRD-003.rejected", "PRD-003.defect_rate", "PRD-004.scrap", "PRD-006.bottleneck",
      "PRD-007.late", "PRD-007.overdue", "PRO-005.unapproved", "PRO-005.late", "PRO-005.over_limit", "PRO-006.split", "PRO-009.price_over", "PRO-001.unknown", "PRO-001.deleted", "PRO-001.blocked", "PRO-001.current_status", "PRO-001.not_approved", "PRO-001.role", "PRO-001.one_time" } do
      assert.is_true(reasons[reason], reason)
    end
    for _, trap in ipairs { "reversed_member", "at_capacity", "smallest_stock", "one_time_at_limit", "instalments",
      "reverse_charge", "late_return", "certificate_not_mandatory", "receipt_reversed", "at_reorder_point", "stock_out", "rest_of_rounding",
      "two_per_cent", "at_the_limit", "two_weeks_of_four", "due_today", "one_unit_below_together", "other_currency_equal" } do
      assert.is_true(traps[trap], trap)
    end
    assert.is_true(result.planted >= 20 and result.decoys >= 3 * 20)
  end)

  it("plants nothing at rate 0, and only what it is asked for", function()
    local files, result = generate { per_million = 0 }
    assert.equal(0, result.planted + result.decoys)
    assert.equal(0, #rows(files["labels.csv"]))
    files = generate { rules = { ["PRO-001"] = true } }
    for _, label in ipairs(rows(files["labels.csv"])) do assert.equal("PRO-001", label.rule_id) end
  end)

  it("can have any key date", function()
    for _, as_of in ipairs { "2024-02-29", "2023-12-31", "2025-01-01" } do
      local _, result = generate { as_of = as_of, n = 90 }
      assert.is_true(result.planted > 0)
    end
  end)
end)
