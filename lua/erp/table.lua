--- Columnar tables for ERP rules.
--
-- Two sides use this module. The loader (erp.mapping, erp.analyst) reads source files as text and
-- builds canonical tables out of them. A rule gets the finished set as `t` and selects, joins,
-- groups and sorts whole columns in C; its own Lua runs on the few rows that are left.
--
-- VALUES. A cell that a rule reads is one of
--   text, id        string                              NULL is nil everywhere
--   date            day number, an integer (t.iso(day) -> "2014-05-31", t.week(day) -> "2014-W22")
--   m q p r %       Decimal: exact, 128 bit. + - * unary- == < <= with Decimals and integers,
--                   tostring (no trailing zeros), d:round(places), d:div(x, scale) (half away from
--                   zero), d:abs(), d:sign(), d:max(x), d:min(x). m q: scale 4, p %: 6, r: 9.
--   n               integer number (within +-2^53)
--   b               true or false
--
-- A MISSING column (the mapping or the header does not provide it) reads NULL, or the schema's
-- default (a flag false, kind "invoice", special "own" …), on every row; `tab.has.reference` tells
-- it from a provided one. A missing table reads as a table without rows; `t:has "vendor"`,
-- `t:has "vendor.tax_id"`.
--
-- ── What a rule sees: run = function(t, p, emit) ─────────────────────────────────────────────
--   t.invoice              Table, rows visible at the key date D (erp-rules.md 1.1). Only tables
--                          that the rule declares (requires, reasons, reads) may be named.
--   t.as_of                D, a day number        t.currency_cc, t.currency_rc   "USD"
--   t.decimal "12.5"       Decimal of text or integer          t.iso(day), t.week(day), t.day "2014-05-31"
--   t.monday(day)          Monday of its ISO week              t.exceeds(v, ref, pct, abs, mode?)
--   t.fx(from, to, day)    Decimal | nil (rate type M, section 0)       t.round(x, currency)
--   t.smallest_unit(currency)     Decimal: 0.01, for JPY 1
--   t.unit_cost(material, plant)  Decimal per base unit | nil (unit_cost/price_unit, scale 6), and its currency | nil
--   t.plant_currency(plant)       "JPY": of the plant's company; unknown: t.currency_cc
--   t.base(q, material, uom)      q in base units (scale 6) | nil: no conversion
--   t.val(line_row, q)            value of a part of a PO or sales line (section 0)
--   t.runs.exact           whether a reason of the declaration can run (2.9)
--   t.population(n)        grain units tested: sets it          t.skip(reason, n)  counts skipped rows
--   emit(finding)          see erp.rule
--
-- TABLE (a view: columns + the rows chosen; nothing is copied). tab:count() rows.
--   tab:where{cond, …}     rows for which every condition is true
--   tab:without{cond, …}   rows for which no condition is true
--       cond = {column, op, value}   op: eq ne lt le gt ge in null notnull
--            = {"any", cond, …} | {"all", cond, …} | {"not", cond}
--            = {alias, "found"} | {alias, "absent"}     after tab:with
--       value: text, integer, Decimal, boolean, day number, a list for `in`, or another column:
--              {"order_date"}, {"order_date", plus = 3} (days, or an integer on numbers).
--       A comparison with NULL is false. A condition on a missing column without a default is left
--       out (2.9), also inside any, all, not. Text knows eq, ne, in, null, notnull.
--   tab:decide("reason", {{name, {cond, …}}, …})   the rows for which one of the cases holds, with a
--                          text column that names the first that does
--   tab:need{"vendor_id", …}   rows where all are set; the others are counted as skipped
--                          `no_<column>` of the first that is NULL. A missing column counts as NULL.
--   tab:skip(reason, {cond, …})   rows for which no condition is true; the others are counted as skipped
--   tab:with(alias, other, keys)   left join to at most one row of `other` (the first in its order):
--                          other's columns are then `alias.column`. keys = {"vendor_id", …}, or
--                          {vendor_id = "partner_id", …}: column of other = column of tab. NULL
--                          equals nothing.
--   tab:with(alias, other, keys, {at = "order_date", from = "valid_from", until_ = "valid_to"})   the same
--                          to the row that is valid on that day of tab, the newest by `from`; both ends
--                          count as inside, NULL is open
--   tab:only(other, keys), tab:except(other, keys)   semi and anti join
--   tab:group(keys, aggregates?)   Table of one row a distinct key (NULL = NULL), in order of first
--                          appearance, with the key columns and one column an aggregate:
--                          {total = {"sum", "qty", where = {cond…}?}, n = {"count", where=?},
--                           first = {"min", "date"}, last = {"max", "date"}, d = {"distinct", "col"}}
--                          A sum over no value is 0, a min or max is NULL. Sums are 128 bit.
--       groups:rows_of(row, order?)  list of the rows of `tab` behind a group row, in `order`
--       groups:of()        the table that was grouped, with column `group#` (number of the group, from 0)
--   tab:sort{"date", "-gross", "po_id"}    by value, text bytewise, NULL last; "-" = descending; stable
--   tab:derive(name, op, …)        tab with one more column:
--       "coalesce", colA, colB (a sum and a number of a row go together)     · "sub", colA, colB (same type, sums too; NULL when either is) · "add", A, B
--       "times", col, colB | Decimal   exact product (128 bit): limits that are a percentage are tested as
--                                  column against column, a*100 > b*pct
--       "plus", col, n             days or integer
--       "days", colA, colB         days from date B to date A, an integer
--       "norm", col                text in upper case, letters and digits only, leading zeros off ("" -> NULL)
--       "iso_week", col            Monday of the date's week (date)
--       "text", col, function(text) -> text | nil       called once a distinct value
--       "by", {cols}, type, function(values…) -> value | nil      called once a distinct combination
--       "copy", col                the same under another name
--       "quotient", colA, colB     A / B, scale 6; NULL when B is 0
--       "round_to", col, unit      the nearest multiple of the amount in column `unit`, as an amount
--       "const", type, value
--   tab:fifo{by = {"order_id","line"}, order = {"date","sched"}, qty = "qty", used = "delivered.qty", as = "open"}
--                          within each key, in order, `used` (one quantity a key, read at its first
--                          row) is taken from the rows' qty; `as` is what is left of each row (>= 0)
--   tab:spread{start = "start_actual", finish = "finish_actual", amount = "actual_hours", until_ = D, even = true}
--                          Table of one row an operation and ISO week: `week` (Monday), `part`
--                          (amount * days in the week / days, scale 6), and all columns of tab
--   tab:to_base{qty = "open", material = "material_id", uom = "uom", as = "base_qty"}   rows without
--                          conversion are dropped and counted as skipped `no_uom`
--   tab:unit_price{price = "price", unit = "price_unit", material = "material_id", uom = "price_uom", as = "base_price"}
--                          price of one base unit (scale 6); NULL where there is no conversion; without uom: price is of that unit
--   tab:trailing_mean{by = {"vendor_id"}, order = {"date","po_id"}, value = "price", other = "po_id", last = 5, least = 3, as = "mean"}
--                          within each key, in order: mean (scale 6) of `value` over the last rows before this
--                          one that have another `other`; NULL when there are fewer than `least`
--   tab:running{by = {"material_id"}, order = {"posting_date"}, qty = "qty", as = "balance"}
--                          within each key (NULL = NULL), in order: sum of qty up to and with the row
--   tab:windows{by = {"vendor_id"}, order = {"date","po_id"}, date = "date", days = 7, sum = "value", least = "limit",
--               each = {cond, …}, as = "window"}
--                          within each key, in order: windows of two rows or more, up to `days` after the
--                          first, in which every row meets the conditions and the sum is at least the first
--                          row's `least`. Tried from each row in turn that is in none. `as` numbers them,
--                          NULL: in none
--   tab:serve(supply, {by = {order_id = "order_id", order_line = "line"}, order = {"target"}, qty = "qty", limit = "target",
--               supply_order = {"actual_gi"}, supply_qty = "qty", date = "actual_gi", filled = "filled", last = "last", late = "late"})
--                          within each key (column of supply = column of tab) the rows of supply, in their
--                          order, fill the rows of tab in theirs. Columns: filled, what came of qty; last, date
--                          of the last supply taken; late, what came after `limit`
--   tab:as_loaded()        the same rows with the facts as loaded (before 1.1 took them back)
--   tab:each() / tab:each(order)   iterates rows: for row in tab:each() do … row.gross … row["vendor.name"]
--   tab:row(i)             i-th row, from 1         tab:first(order?)    row | nil
--   tab:index(keys)        ix: ix:get(v1, v2, …) -> row | nil, ix:all(v1, …) -> Table
--   tab:sum(col), tab:min(col), tab:max(col)   over all rows: Decimal or number; nil without rows (sum: 0)
--   tab.has.column, tab.columns (names)        row.src -> "invoice.csv:17" (file:line)
--   tab:list(n, fn)        evidence list: fn(row) of the first n rows (default 10)
--
-- ── What the loader sees ─────────────────────────────────────────────────────────────────────
--   local T = require "erp.table"
--   raw, err = T.read(path, {name = "invoice.csv", format = "csv"|"ndjson"})   text, dictionary-coded
--       raw.name, raw.rows, raw.columns (list), raw.bytes, raw.errors ({line, column, code, message}
--       <= 100), raw.rejected (bad cells and rows); raw.has.Column
--   raw:column "Name"                 RawColumn: text or NULL (empty cell)
--   raw:where("ReceivedQty", function(text) return boolean end)   raw with fewer rows; once a distinct value
--   raw:map("Status", {["1"] = "pending"} | function(text|nil) return text|nil end)   RawColumn, once a value
--   raw:map2("A", "B", function(a, b) return text|nil end)        once a distinct pair
--   raw:lookup(keycol, other_raw, other_key, other_value_column)  RawColumn: value of the first match
--   raw:count_of(keycol, other_raw, other_key)                    RawColumn: number of matching rows, "0" when none
--       raw:release()                     frees the cells, once all tables of this file are built
--   T.constant "USD"                  RawColumn of any length; T.constant(nil) provided but NULL
--   tab = T.build(def, parts, ctx)    canonical table
--       def = {name = "invoice", columns = {{name=, type=, key=true?, default=?, values={…}?, domain=?}, …}}
--           type: id text d ts m q p r % b n (erp-rules.md 1); values: the texts allowed
--           default: read where the cell is NULL or the column missing (2.9); key columns default ""
--           domain: columns of one domain share a dictionary and join fastest; default: the name
--       parts = {{raw = raw, columns = {gross = raw:column "Gross", kind = T.constant "invoice"}}, …}
--           a RawColumn must come from the part's raw (or a constant); a canonical column that no
--           part names is missing
--       ctx = T.context()             one a data set: holds the dictionaries
--       tab.errors {{file, line, column, code, message} <= 100}, tab.rejected (bad cells -> NULL),
--       tab.duplicates (rows equal in all columns, removed), tab.conflicts (rows dropped because an
--       earlier row has the key with other values; each is an error too), tab.rows
--   tab = T.from_rows(def, {{invoice_id="1", gross="10.50"}, …}, ctx)   for tests and small tables
--   data = T.set{ctx=, tables={invoice=tab, …}, defs={invoice=def, …}, as_of="2014-09-30",
--                company_currency="USD", report_currency="USD"?, sources={invoice={"invoice.csv"}, …}}
--       applies table 1.1 (erp.keydate) and is what erp.rule runs on
--   T.decimal(x), T.day "2014-05-31" -> day number | nil, T.iso(day), T.week(day)
--
-- ERRORS of cells: code bad_number, out_of_range, too_precise (digits beyond the scale that are not
-- zero), bad_date, bad_flag, bad_integer, not_allowed (values), dup_key, ragged_row, bad_quote,
-- not_utf8, nul_byte, bad_json, dup_field, not_flat.
-- Numbers: optional sign, digits, "." fraction, exponent of Excel (1.5E+3); trailing minus
-- (100.00-). Dates: YYYY-MM-DD, YYYYMMDD, timestamps YYYY-MM-DD[T ]hh:mm… (date part, counted in
-- tab.tz_assumed); 00000000 and 99991231 (and 9999-12-31) are NULL. Flags: 1 0 true false X.

local D = require "erp.table.decimal"
local R = require "erp.table.raw"
local B = require "erp.table.build"
local data = require "erp.table.data"
-- Methods of a Table.
require "erp.table.group"
require "erp.table.derive"
require "erp.table.series"
require "erp.table.units"

local M = {}

M.read, M.parse, M.constant = R.read, R.parse, R.constant
M.context, M.build, M.from_rows = B.context, B.build, B.from_rows
M.set, M.has = data.set, data.has
M.decimal, M.is_decimal, M.day, M.iso, M.week = D.decimal, D.is_decimal, D.day, D.iso, D.week

return M
