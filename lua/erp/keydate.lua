--- The key date (erp-rules.md 1.1): which rows D leaves visible, and which facts it takes back.
local F = require "erp.table.ffi"
local K = require "erp.table.column"
local C = F.C

local M = {}

--- The date of a row: the first of these columns that is set; none: the row is kept.
M.dated = {
  fx_rate = { "valid_from" },
  cost_posting = { "posting_date" },
  gl_item = { "posting_date" },
  tax_item = { "tax_date" },
  bank_line = { "booking_date" },
  purchase_order = { "order_date", "created_date" },
  goods_receipt = { "posting_date" },
  invoice = { "posting_date", "doc_date" },
  stock_move = { "posting_date" },
  stock_count = { "count_date" },
  sales_order = { "order_date" },
  inspection_lot = { "created_date" },
}

--- Rows that come and go with a row of another table: table, keys.
M.dependent = {
  po_line = { "purchase_order", { "po_id" } },
  po_schedule = { "purchase_order", { "po_id" } },
  invoice_line = { "invoice", { "invoice_id", "fiscal_year" } },
  sales_line = { "sales_order", { "order_id" } },
  sales_schedule = { "sales_order", { "order_id" } },
}

local FINISHED = { confirmed = "released", delivered = "released", teco = "released", closed = "released" }

--- Facts taken back where `date` lies after D, in this order: set[column] = false (NULL), a flag's
--- 0, a text, or a map of texts (others stay).
M.taken_back = {
  material = { { date = "first_receipt", set = { first_receipt = false } } },
  vendor = { { date = "blocked_from", set = { status = "active" } } },
  customer = { { date = "hold_from", set = { on_hold = 0 } } },
  gl_item = { { date = "clearing_date", set = { clearing_doc = false, clearing_date = false, open_doc = false } } },
  purchase_order = {
    { date = "approved_date", set = { approved_date = false, approval = { approved = "pending" } } },
    { date = "sent_date", set = { sent = 0 } },
  },
  invoice = { { date = "pay_date", set = { pay_date = false, status = { paid = "posted" } } } },
  stock_count = { { date = "posted_date", set = { posted_date = false } } },
  sales_order = {
    { date = "credit_release_date", set = { credit_release_date = false, credit_status = { released = "blocked" } } },
  },
  delivery_line = {
    { date = "actual_gi", set = { actual_gi = false, issued = 0 } },
    { date = "pod_date", set = { pod_date = false } },
  },
  production_order = {
    { date = "finish_actual", set = { yield_qty = false, scrap_qty = false, finish_actual = false, status = FINISHED } },
    { date = "start_actual", set = { start_actual = false, status = "created" } },
  },
  prod_operation = {
    { date = "start_actual", set = { start_actual = false, done = 0 } },
    { date = "finish_actual", set = { finish_actual = false, done = 0 } },
  },
  inspection_lot = { { date = "decision_date", set = { decision = false, decision_date = false } } },
}

--- Links to a row (by the first column of `key`) that are taken back when that row is ignored.
M.links = {
  invoice = { { column = "reversed_by", of = "invoice", key = "invoice_id" } },
  gl_item = { { column = "reversed_by", of = "gl_item", key = "doc_id" } },
  bank_line = { { column = "posted_doc", of = "gl_item", key = "doc_id" } },
}

--- Rows of a frame whose date is after D, as a mask; nil when there is none.
local function after(f, column, day)
  local c = K.find(f, column)
  if not c or c.missing then return nil end
  local mask = F.alloc(1, f.n)
  C.kt_k_cmp32(mask, K.data(c), nil, f.n, 4, day)
  return mask
end

local function rows_in(mask, n)
  local rows = F.alloc(4, n)
  return rows, tonumber(C.kt_k_select(mask, nil, n, rows))
end

--- A column that may be written: the frame's own copy.
local function writable(now, name)
  local c = now.cols[name]
  if not c or c.missing then return nil end
  if now.changed[name] then return c end
  local copy = {}
  for k, v in pairs(c) do copy[k] = v end
  copy.p, copy.from, copy.idx = F.alloc(c.w, c.n), nil, nil
  F.ffi.copy(copy.p, K.data(c), c.w * c.n)
  now.cols[name], now.changed[name] = copy, true
  return copy
end

local function take_back(now, fact, day)
  local mask = after(now, fact.date, day)
  if not mask then return end
  local rows, n = rows_in(mask, now.n)
  if n == 0 then return end
  for name, value in pairs(fact.set) do
    local c = writable(now, name)
    if c then
      local p = c.p
      if type(value) == "table" then
        local map = {}
        for from, to in pairs(value) do map[C.kt_dict_intern(c.dict, from, #from)] = C.kt_dict_intern(c.dict, to, #to) end
        for i = 0, n - 1 do p[rows[i]] = map[p[rows[i]]] or p[rows[i]] end
      else
        local v = value
        if value == false then v = c.w == 4 and F.NULL32 or F.NULL64
        elseif type(value) == "string" then v = C.kt_dict_intern(c.dict, value, #value) end
        for i = 0, n - 1 do p[rows[i]] = v end
      end
    end
  end
end

--- Visible rows by the table's own date; nil: all.
local function dated(f, columns, day)
  local when
  for _, name in ipairs(columns) do
    local c = K.find(f, name)
    if c and not c.missing then
      if not when then
        when = K.data(c)
      else
        local both = F.alloc(4, f.n)
        C.kt_k_coalesce(both, when, K.data(c), 4, f.n)
        when = both
      end
    end
  end
  if not when then return nil end
  local mask = F.alloc(1, f.n)
  C.kt_k_cmp32(mask, when, nil, f.n, 4, day)
  C.kt_k_not(mask, f.n)
  local sel, n = rows_in(mask, f.n)
  if n == f.n then return nil end
  return sel, n
end

--- For every table built: the frame as of D, the frame as loaded, the visible rows.
---@param built table<string, erp.Built>
---@param day integer D
---@param probe fun(f: erp.Frame, names: string[], of: {f: erp.Frame, sel: ffi.cdata*?, n: integer}, of_names: string[]): ffi.cdata* group per row or -1
---@return table<string, {f: erp.Frame, sel: ffi.cdata*?, n: integer}>
function M.apply(built, day, probe)
  local out, ignored = {}, {}
  for name, tab in pairs(built) do
    local f = tab.frame
    local now = K.frame(f.n, f)
    for column, c in pairs(f.cols) do now.cols[column] = c end
    now.names, now.changed, now.loaded = f.names, {}, f
    local v = { f = now, sel = nil, n = f.n }
    if M.dated[name] then
      local sel, n = dated(f, M.dated[name], day)
      if sel then
        v.sel, v.n = sel, n
        local mask = F.alloc(1, f.n)
        F.ffi.fill(mask, f.n, 1)
        for i = 0, n - 1 do mask[sel[i]] = 0 end
        local rows, count = rows_in(mask, f.n)
        ignored[name] = { f = f, sel = rows, n = count }
      end
    end
    for _, fact in ipairs(M.taken_back[name] or {}) do take_back(now, fact, day) end
    out[name] = v
  end
  for name, link in pairs(M.dependent) do
    local v, lost = out[name], ignored[link[1]]
    if v and lost then
      local ids = probe(v.f, link[2], lost, link[2])
      local mask = F.alloc(1, v.n)
      C.kt_k_found(mask, ids, nil, v.n, 0)
      v.sel, v.n = rows_in(mask, v.n)
    end
  end
  for name, list in pairs(M.links) do
    for _, link in ipairs(list) do
      local v, lost = out[name], ignored[link.of]
      local c = v and K.find(v.f, link.column)
      if c and not c.missing and lost then
        local gone = probe(v.f, { link.column }, lost, { link.key })
        local there = probe(v.f, { link.column }, out[link.of], { link.key })
        local own = writable(v.f, link.column)
        for i = 0, v.f.n - 1 do
          if gone[i] >= 0 and there[i] < 0 then own.p[i] = F.NULL32 end
        end
      end
    end
  end
  return out
end

return M
