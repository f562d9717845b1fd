local T = require "erp.table"
local data_set = require "erp.table.data"

local function column(name, kind, more)
  local c = more or {}
  c.name, c.type = name, kind
  return c
end

local defs = {
  vendor = { name = "vendor", columns = {
    column("vendor_id", "id", { key = true }), column("status", "id", { values = { "active", "blocked" } }),
    column("blocked_from", "d"), column("one_time", "b", { default = "0" }), column("rating", "n") } },
  purchase_order = { name = "purchase_order", columns = {
    column("po_id", "id", { key = true }), column("vendor_id", "id"), column("order_date", "d"), column("created_date", "d"),
    column("net_value", "m"), column("deleted", "b", { default = "0" }), column("kind", "id", { default = "standard" }) } },
  po_line = { name = "po_line", columns = {
    column("po_id", "id", { key = true }), column("line", "id", { key = true }), column("batch", "id", { key = true, optional = true }),
    column("qty", "q"), column("price", "p") } },
}

describe("erp.table", function()
  local d = T.decimal

  -- `t` over tables given as CSV text, and the tables as built.
  local function set(files, as_of)
    local ctx, tables = T.context(), {}
    for name, text in pairs(files) do
      local raw = assert(T.parse(text, { name = name .. ".csv", format = "csv" }))
      local columns = {}
      for _, c in ipairs(defs[name].columns) do
        if raw.has[c.name] then columns[c.name] = raw:column(c.name) end
      end
      tables[name] = T.build(defs[name], { { raw = raw, columns = columns } }, ctx)
    end
    local data = T.set { ctx = ctx, tables = tables, defs = defs, as_of = as_of or "2014-09-30", company_currency = "USD" }
    local skipped, allowed = {}, { vendor = true, purchase_order = true, po_line = true }
    local t = data_set.rule_view(data, { allowed = allowed, reasons = {}, population = function() end,
      skip = function(reason, n) skipped[reason] = (skipped[reason] or 0) + n end })
    return t, tables, skipped
  end

  local function ids(tab, name, order)
    local out = {}
    for row in tab:each(order) do out[#out + 1] = row[name] end
    return table.concat(out, " ")
  end

  local vendors = "vendor_id,status,blocked_from,rating\nV1,active,,1\nV2,blocked,2014-01-05,5\nV3,blocked,2014-12-01,\n"
  local orders = "po_id,vendor_id,order_date,net_value,deleted\n10,V1,2014-01-01,10.50,0\n9,V2,2014-01-06,100,\n"
    .. "8,V9,,7,1\n7,V3,2014-03-01,,0\n6,,2014-03-01,5,0\n5,V1,2014-10-01,1,0\n"

  it("computes exactly and refuses what is not exact", function()
    assert.equal("0.3", tostring(d "0.1" + d "0.2"))
    assert.equal("-1.5625", tostring(d "12.5" * d "-0.125"))
    assert.equal("0.333333", tostring(d(1):div(3)))
    assert.equal("-0.13", tostring(d "-0.125":round(2)))
    assert.is_true(d "1.0" == d "1" and d "1" < 2 and d "2" >= d "2.000" and d "1" ~= nil and not (d "1" == "1"))
    assert.equal("12.50", d "12.5":text(2))
    assert.equal("3", tostring(d "-3":abs():max(2)))
    assert.has_error(function() return d(0.1) end)
    assert.has_error(function() return d "1,5" end)
    assert.has_error(function() return d "1" / 2 end)
    assert.has_error(function() return d "1" + nil end)
    assert.has_error(function() return d "1":div(0) end)
    local big = d "99999999999999999999999999999999999999"
    assert.has_error(function() return big * big end)
    assert.is_true(T.day "2012-02-29" + 1 == T.day "2012-03-01" and T.day "2013-02-29" == nil)
  end)

  it("tests with both limits, or either where the ERP's own setting says so", function()
    local exceeds = set({}).exceeds
    assert.is_true(exceeds(d "-11", d(100), d(10), d(10)))
    assert.is_false(exceeds(d(10), d(100), d(10), nil)) -- equal is allowed
    assert.is_false(exceeds(d(11), d(200), d(10), d(10)))
    assert.is_true(exceeds(d(11), d(200), d(10), d(10), "any"))
    assert.is_false(exceeds(d(11), d(200), d(10), nil, "any"))
    assert.is_true(exceeds(d(1), d(0), d(10), nil))
  end)

  it("chooses, and lets no comparison with NULL be true", function()
    local t = set { vendor = vendors, purchase_order = orders }
    local po = t.purchase_order
    assert.equal("10 9 8 7 6", ids(po, "po_id"))
    assert.equal("9", ids(po:where { { "net_value", "gt", d "10.5" } }, "po_id"))
    assert.equal("10 8 6", ids(po:where { { "net_value", "ne", 100 } }, "po_id"))
    assert.equal("10 8 7 6", ids(po:without { { "net_value", "eq", 100 } }, "po_id"))
    assert.equal("8", ids(po:where { { "deleted", "eq", true } }, "po_id"))
    assert.equal("10 9", ids(po:where { { "vendor_id", "in", { "V1", "V2", "absent" } } }, "po_id"))
    assert.equal("", ids(po:where { { "vendor_id", "eq", "absent" } }, "po_id"))
    assert.equal("8 6", ids(po:where { { "any", { "order_date", "null" }, { "vendor_id", "null" } } }, "po_id"))
    assert.equal("9", ids(po:where { { "all", { "order_date", "ge", T.day "2014-01-06" }, { "not", { "net_value", "le", 5 } },
      { "net_value", "notnull" } } }, "po_id"))
    assert.equal("10", ids(po:where { { "order_date", "lt", T.day "2014-01-02" } }, "po_id"))
  end)

  it("leaves conditions on missing columns out, and reads defaults", function()
    local t = set { purchase_order = "po_id,vendor_id\n1,V1\n" }
    assert.is_false(t.purchase_order.has.net_value)
    assert.is_true(t.purchase_order.has.vendor_id)
    assert.equal(1, t.purchase_order:where { { "net_value", "gt", 5 }, { "order_date", "notnull" } }:count())
    assert.equal(1, t.purchase_order:without { { "net_value", "null" } }:count())
    assert.equal(1, t.purchase_order:where { { "kind", "eq", "standard" } }:count())
    assert.equal(0, t.purchase_order:where { { "deleted", "eq", true } }:count())
    local row = t.purchase_order:row(1)
    assert.same({ nil, false, "standard" }, { row.net_value, row.deleted, row.kind })
    -- A missing table makes no test true: nobody is an unknown vendor without vendors.
    assert.is_false(t:has "vendor")
    assert.equal(1, t.purchase_order:with("vendor", t.vendor, { "vendor_id" }):where { { "vendor", "absent" } }:count())
    assert.equal(0, t.vendor:count())
    assert.equal(0, t.vendor:group({ "status" }, { n = { "sum", "rating" } }):count())
    assert.equal("0", tostring(t.vendor:sum "rating"))
  end)

  it("counts rows without a required value", function()
    local t, _, skipped = set { vendor = vendors, purchase_order = orders }
    assert.equal("10 9 8", ids(t.purchase_order:need { "vendor_id", "net_value" }, "po_id"))
    assert.same({ no_vendor_id = 1, no_net_value = 1 }, skipped)
  end)

  it("joins by value, whichever dictionaries the texts came from", function()
    local t = set { vendor = vendors, purchase_order = orders }
    local po = t.purchase_order:with("vendor", t.vendor, { "vendor_id" })
    assert.equal("10 9 7", ids(po:where { { "vendor", "found" } }, "po_id"))
    assert.equal("8 6", ids(po:where { { "vendor", "absent" } }, "po_id"))
    assert.equal("9", ids(po:where { { "vendor.blocked_from", "le", { "order_date" } } }, "po_id"))
    assert.equal("9 7", ids(po:where { { "vendor.blocked_from", "le", { "order_date", plus = 300 } } }, "po_id"))
    assert.equal("blocked", po:where { { "po_id", "eq", "9" } }:row(1)["vendor.status"])
    assert.is_nil(po:where { { "po_id", "eq", "8" } }:row(1)["vendor.rating"])
    assert.equal("10 9 7", ids(t.purchase_order:only(t.vendor, { "vendor_id" }), "po_id"))
    assert.equal("8 6", ids(t.purchase_order:except(t.vendor, { "vendor_id" }), "po_id"))
    -- vendor_id and kind are of different domains.
    local two = t.purchase_order:derive("same", "text", "po_id", function(s) return s == "9" and "V2" or s == "10" and "V9" or "odd" end)
    assert.equal("9", ids(two:where { { "vendor_id", "eq", { "same" } } }, "po_id"))
    assert.equal("10 8 7", ids(two:where { { "vendor_id", "ne", { "same" } } }, "po_id"))
    -- po_id and line are of different domains.
    local other = t.purchase_order:derive("line", "text", "po_id", function(s) return s == "10" and "9" or nil end)
    assert.equal("10", ids(other:with("o", t.purchase_order, { po_id = "line" }):where { { "o.net_value", "eq", 100 } }, "po_id"))
    assert.has_error(function() t.purchase_order:with("x", t.vendor, { vendor_id = "order_date" }) end)
  end)

  it("groups with NULL as a key of its own and sums without rounding", function()
    local t = set { purchase_order = "po_id,vendor_id,net_value,order_date\n1,A,900000000000000.0001,2014-01-02\n2,A,900000000000000.0002,2014-01-01\n"
      .. "3,,1,\n4,,2,\n5,B,,\n" }
    local g = t.purchase_order:group({ "vendor_id" }, { total = { "sum", "net_value" }, n = { "count" }, valued = { "count", "net_value" },
      first = { "min", "order_date" }, last = { "max", "order_date" }, big = { "count", where = { { "net_value", "gt", 1 } } },
      days = { "distinct", "order_date" } })
    assert.equal(3, g:count())
    local a, null, b = g:row(1), g:row(2), g:row(3)
    assert.same({ "A", nil, "B" }, { a.vendor_id, null.vendor_id, b.vendor_id })
    assert.equal("1800000000000000.0003", tostring(a.total))
    assert.same({ "3", "0" }, { tostring(null.total), tostring(b.total) })
    assert.same({ 2, 2, 2, 2, 1 }, { a.n, a.valued, a.big, a.days, b.n })
    assert.same({ 0, 0, nil }, { b.valued, b.days, b.first })
    assert.same({ "2014-01-01", "2014-01-02" }, { T.iso(a.first), T.iso(a.last) })
    assert.equal("2 1", ids(g:rows_of(a, { "order_date" }), "po_id"))
    local big = g:where { { "total", "gt", d "1800000000000000.0002" } }
    assert.equal("1 2", ids(big:rows_of(big:row(1)), "po_id"))
    local back = {}
    for row in g:of():each() do back[#back + 1] = row["group#"] end
    assert.same({ 0, 0, 1, 1, 2 }, back)
  end)

  it("sorts ids as bytes, NULL last either way", function()
    local t = set { purchase_order = orders }
    assert.equal("10 6 7 8 9", ids(t.purchase_order:sort { "po_id" }, "po_id"))
    assert.equal("9 10 8 6 7", ids(t.purchase_order:sort { "-net_value", "po_id" }, "po_id"))
    assert.equal("10 9 6 7 8", ids(t.purchase_order, "po_id", { "order_date", "po_id" }))
    assert.equal("6 7 9 10 8", ids(t.purchase_order, "po_id", { "-order_date", "po_id" }))
    assert.equal("10", t.purchase_order:first { "order_date" }.po_id)
    assert.is_nil(t.vendor:first())
  end)

  it("derives columns", function()
    local t = set { purchase_order = "po_id,vendor_id,order_date,created_date,net_value\n1,r-007/a,,2014-05-31,2.5\n2,---,2014-06-01,2014-01-01,\n" }
    local x = t.purchase_order:derive("day", "coalesce", "order_date", "created_date"):derive("later", "plus", "day", 3)
      :derive("ref", "norm", "vendor_id"):derive("week", "iso_week", "day"):derive("limit", "times", "net_value", d "1.001")
      :derive("diff", "sub", "net_value", "net_value"):derive("five", "const", "q", 5)
    local a, b = x:row(1), x:row(2)
    assert.same({ "2014-05-31", "2014-06-03", "R007A", "2014-05-26" }, { T.iso(a.day), T.iso(a.later), a.ref, T.iso(a.week) })
    assert.same({ "2014-06-01", nil, "2014-05-26", nil }, { T.iso(b.day), b.ref, T.iso(b.week), b.limit })
    assert.same({ "2.5025", "0", "5" }, { tostring(a.limit), tostring(a.diff), tostring(b.five) })
    assert.equal("1", ids(x:where { { "limit", "gt", { "net_value" } } }, "po_id"))
    local decided = x:decide("why", { { "none", { { "net_value", "null" } } }, { "small", { { "net_value", "lt", 3 } } }, { "any", { { "kind", "notnull" } } } })
    assert.equal("small none", ids(decided, "why"))
  end)

  it("finds single rows by key", function()
    local t = set { po_line = "po_id,line,qty,price\n1,10,2,1.5\n1,20,3,2\n2,10,,0\n" }
    local ix = t.po_line:index { "po_id", "line" }
    assert.equal("3", tostring(ix:get("1", "20").qty))
    assert.is_nil(ix:get("1", "30"))
    assert.is_nil(ix:get("1", nil))
    assert.equal(2, t.po_line:index({ "po_id" }):all("1"):count())
    assert.equal(0, t.po_line:index({ "po_id" }):all("9"):count())
    assert.equal("", t.po_line:row(1).batch) -- a key part that the source does not have
    assert.equal("po_line.csv:3", ix:get("1", "20").src)
    assert.same({ { "1", "10" } }, t.po_line:list(1, function(row) return { row.po_id, row.line } end))
    assert.equal("5", tostring(t.po_line:sum "qty"))
  end)

  it("names bad cells by line and column and keeps the rest of the row", function()
    local _, tables = set { vendor = "vendor_id,status,blocked_from,rating\nV1,odd,2014-02-30,1.5\nV2,blocked,2014-02-03T10:00,4\nV2,blocked,2014-02-03T10:00,4\nV2,active,,4\n" }
    local tab = tables.vendor
    assert.same({ 2, 1, 1, 4, 2 }, { tab.rows, tab.duplicates, tab.conflicts, tab.rejected, tab.tz_assumed })
    local seen = {}
    for _, e in ipairs(tab.errors) do seen[#seen + 1] = ("%s:%d %s %s"):format(e.file, e.line, e.column or "-", e.code) end
    assert.same({ "vendor.csv:2 status not_allowed", "vendor.csv:2 blocked_from bad_date", "vendor.csv:2 rating bad_integer", "vendor.csv:5 - dup_key" }, seen)
  end)

  it("shows the data as of the key date", function()
    local files = { vendor = vendors, purchase_order = orders, po_line = "po_id,line,qty\n5,1,1\n10,1,1\n" }
    local t = set(files)
    assert.equal("V1 V2 V3", ids(t.vendor, "vendor_id"))
    assert.equal("active", t.vendor:index({ "vendor_id" }):get("V3").status) -- blocked later
    assert.equal("blocked", t.vendor:as_loaded():index({ "vendor_id" }):get("V3").status)
    assert.equal("10", ids(t.po_line, "po_id")) -- its order is of October
    t = set(files, "2014-12-31")
    assert.equal("blocked", t.vendor:index({ "vendor_id" }):get("V3").status)
    assert.equal(2, t.po_line:count())
  end)

  it("gives a rule nothing to break", function()
    local t = set { vendor = vendors, purchase_order = orders }
    local row = t.vendor:row(1)
    assert.has_error(function() row.status = "x" end)
    assert.has_error(function() t.vendor.sel = 1 end)
    assert.has_error(function() t.vendor = 1 end)
    assert.is_false(getmetatable(row))
    assert.is_false(getmetatable(t.vendor))
    assert.has_error(function() return row.absent end)
    assert.has_error(function() return t.vendor:absent() end)
    assert.has_error(function() return t.nothing end)
    assert.has_error(function() return t.vendor:row(4) end)
    for _, n in ipairs { -1, 3, 1e9, 0 / 0, "x" } do
      rawset(row, 1, n)
      assert.has_error(function() return row.status end)
    end
    assert.has_error(function() return t.vendor:where { { "status", "gt", "a" } } end)
    assert.has_error(function() return t.vendor:where { { "rating", "gt", "a" } } end)
    assert.has_error(function() return t.vendor:where { { "rating", "is", 1 } } end)
    assert.has_error(function() return t.vendor:group { "absent" } end)
  end)

  it("maps, counts and looks up texts for the loader", function()
    local a = assert(T.parse("id,flag,n\n1,Y,5\n2,,\n3,N,x\n", { name = "a.csv", format = "csv" }))
    local b = assert(T.parse('{"id":"1","v":"p"}\n{"id":"1","v":"q"}\n{"id":"3"}\n', { name = "b.ndjson", format = "ndjson" }))
    local function texts(raw, c)
      local def = { name = "x", columns = { column("k", "text") } }
      local tab, out = T.build(def, { { raw = raw, columns = { k = c } } }, T.context()), {}
      local data = T.set { ctx = T.context(), tables = { x = tab }, defs = { x = def }, as_of = "2014-01-01", company_currency = "USD" }
      local t = data_set.rule_view(data, { allowed = { x = true }, reasons = {}, skip = error, population = error })
      for r in t.x:each() do out[#out + 1] = r.k or "~" end
      return table.concat(out, " ")
    end
    assert.equal("yes ~ N", texts(a, a:map("flag", function(s) return s == "Y" and "yes" or s end)))
    assert.equal("yes none ~", texts(a, a:map("flag", function(s) return s == nil and "none" or ({ Y = "yes" })[s] end)))
    assert.equal("1Y 2- 3N", texts(a, a:map2("id", "flag", function(x, y) return x .. (y or "-") end)))
    assert.equal("2 0 1", texts(a, a:count_of("id", b, "id")))
    assert.equal("p ~ ~", texts(a, a:lookup("id", b, "id", "v")))
    assert.equal("c c c", texts(a, T.constant "c"))
    local few = a:where("flag", function(s) return s ~= "N" end)
    assert.same({ 2, "1 2" }, { few.rows, texts(few, few:column "id") })
    assert.has_error(function() T.build({ name = "x", columns = { column("k", "text") } }, { { raw = few, columns = { k = a:column "id" } } }, T.context()) end)
    local none, err = T.parse("a,a\n", { name = "c.csv", format = "csv" })
    assert.same({ nil, "data_rejected" }, { none, err.code })
  end)
end)
