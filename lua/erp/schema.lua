--- The canonical schema (erp-rules.md, section 1) as data, in the form that erp.table builds tables from.
-- A column is written `name:type`; without a type it is an id; `name=a|b` is an id that must be one of these words.
-- Types: id, text, d date, ts date-time, m money, q quantity, p price, r rate, % per cent, b flag, n integer.
-- Key columns stand before the bar. Those marked `?` may be absent in a source and are then the empty string; every
-- other key column that is absent is missing, like any column. What the key date does to a table is erp.keydate.
local M = {}

---@class erp.Column
---@field name string
---@field type string id text d ts m q p r % b n
---@field key boolean?
---@field optional boolean? a key column that may be absent in the source: '' and not missing
---@field values string[]? the words allowed
---@field default string? read where the cell is NULL or the column missing (2.9), in a file's spelling
---@field domain string columns of one domain share a dictionary

---@class erp.TableDef
---@field name string
---@field columns erp.Column[] in the order of the specification; company_id is added where it is not listed
---@field column table<string, erp.Column>

local spec = {
  { "company", "company_id | name:text currency country fiscal_variant tz max_fx_dev_pct:%" },
  { "plant", "plant_id | company_id tz calendar_id neg_stock_allowed:b" },
  { "currency", "currency | decimals:n" },
  { "fx_rate", "rate_type? from_cur to_cur valid_from:d | rate:r" },
  { "uom_conv", "material_id? from_uom to_uom | num:q den:q" },
  { "tax_code", "country tax_code valid_from:d | valid_to:d rate:% kind=input|output|reverse|exempt" },
  { "calendar_day", "calendar_id date:d | working:b" },
  { "period", "fiscal_variant fiscal_year period:n | date_from:d date_to:d" },
  { "tolerance", "company_id? key | lower_abs:m lower_pct:% upper_abs:m upper_pct:% currency" },
  { "approval_policy", "company_id? doc_type? level:n | min_amount:m currency approver_limit:m" },
  { "vendor", [[
    vendor_id | name:text country status=active|blocked|deleted blocked_from:d approved_from:d approved_to:d
    rating:n tax_id bank_key one_time:b intercompany:b role_supplier:b po_required:b ]] },
  { "vendor_cert", "vendor_id cert_type | valid_from:d valid_to:d mandatory:b" },
  { "vendor_price", [[
    vendor_id material_id plant_id? valid_from:d | valid_to:d price:p price_unit:n uom currency ]] },
  { "source_list", "material_id plant_id vendor_id valid_from:d | valid_to:d blocked:b" },
  { "customer", [[
    customer_id | name:text credit_account_id credit_limit:m currency on_hold:b hold_from:d segment ]] },
  { "material", [[
    material_id | type base_uom group abc procurement=buy|make shelf_life_days:n batch_managed:b valuated:b
    first_receipt:d ]] },
  { "material_plant", [[
    material_id plant_id | safety_stock:q reorder_point:q max_stock:q lead_time_days:n unit_cost:p
    price_unit:n currency phase_out:d neg_allowed:b ]] },
  { "budget", [[
    object_id fiscal_year period:n kind=budget|plan version? cost_element? | amount:m currency controlled:b ]] },
  { "cost_posting", [[
    posting_id | object_id fiscal_year period:n posting_date:d cost_element
    value_type=actual|commitment|statistical amount:m currency ref_doc ref_line ]] },
  { "gl_item", [[
    company_id? doc_id fiscal_year? line | doc_type account_id
    account_kind=bank|bank_clearing|grir|ar|ap|clearing|expense|tax|other partner_id doc_date:d
    posting_date:d entry_date:d due_date:d doc_currency amount_doc:m amount_cc:m fx_rate:r rate_date:d
    rate_type reference clearing_doc clearing_date:d reverses reversed_by special_gl object_id disputed:b
    open_doc:m ]] },
  { "tax_item", [[
    company_id? doc_id fiscal_year? line | tax_code tax_date:d direction=in|out base_doc:m tax_doc:m
    base_lines:n expected_doc:m currency direct:b partner_id ]] },
  { "bank_line", [[
    bank_account_id statement_id line | booking_date:d value_date:d amount:m currency reference posted_doc ]] },
  { "contract", [[
    contract_id line | vendor_id kind=quantity|value valid_from:d valid_to:d target_qty:q target_value:m
    currency material_id price:p price_unit:n uom deleted:b ]] },
  { "purchase_order", [[
    po_id | company_id vendor_id doc_type created_date:d created_by order_date:d currency fx_rate:r
    rate_fixed:b approval=not_required|pending|partial|approved|rejected approved_date:d approved_by
    net_value:m purch_group sent:b sent_date:d deleted:b ]] },
  { "po_line", [[
    po_id line | material_id material_group plant_id qty:q uom price:p price_unit:n price_uom net_value:m
    tax_code item_cat=standard|consignment|subcontract|service|limit|transfer|third_party gr_required:b
    gr_based_iv:b ir_expected:b over_tol:% under_tol:% over_unlimited:b delivered_flag:b invoiced_flag:b
    is_return:b free:b est_price:b contract_id contract_line object_id deleted:b ]] },
  { "po_schedule", "po_id line sched | due_date:d qty:q confirmed_date:d confirmed_qty:q" },
  { "goods_receipt", [[
    gr_id fiscal_year? gr_line | po_id line posting_date:d entry_date:d qty:q amount_cc:m movement reverses
    blocked:b kind=receipt|return|reversal|rejection ]] },
  { "invoice", [[
    invoice_id fiscal_year? | company_id vendor_id reference doc_date:d posting_date:d entry_date:d currency
    fx_rate:r gross:m tax:m kind=invoice|credit_memo|subseq_debit|subseq_credit|down_payment
    status=parked|posted|blocked|paid|cancelled reverses reversed_by created_by due_date:d pay_date:d
    is_recurring:b po_id ]] },
  { "invoice_line", [[
    invoice_id fiscal_year? line | po_id po_line gr_id qty:q amount:m tax_code
    line_kind=goods|subseq|delivery_cost|other ]] },
  { "stock", [[
    material_id plant_id sloc? batch? special?=own|vendor_consign|customer|project|sales_order
    stock_type?=unrestricted|quality|blocked|transit | qty:q ]] },
  { "batch", "material_id plant_id batch | expiry_date:d mfg_date:d restricted:b" },
  { "stock_move", [[
    move_id line | material_id plant_id sloc batch special posting_date:d ts:ts qty:q amount_cc:m
    move_class=receipt|issue_sales|issue_prod|scrap|transfer|count_adj|return|other ref_doc reverses ]] },
  { "stock_count", [[
    count_id line | material_id plant_id sloc batch special count_date:d book_qty:q count_qty:q diff_qty:q
    zero_count:b superseded:b posted_date:d unit_cost:p ]] },
  { "sales_order", [[
    order_id | customer_id credit_account_id order_date:d currency ship_complete:b delivery_block:b
    credit_status=ok|blocked|released credit_release_date:d cancelled:b successor_id ]] },
  { "sales_line", [[
    order_id line | material_id plant_id qty:q uom net_price:p price_unit:n net_value:m tax:% under_tol:%
    rejected:b item_cat ]] },
  { "sales_schedule", "order_id line sched | requested_date:d promised_date:d qty:q confirmed_qty:q" },
  { "delivery_line", [[
    delivery_id line | order_id order_line qty:q planned_gi:d actual_gi:d pod_date:d issued:b billed_qty:q
    is_return:b cancelled:b ]] },
  { "production_order", [[
    order_id | plant_id material_id qty:q plan_scrap_pct:% start_plan:d finish_plan:d start_actual:d
    finish_actual:d yield_qty:q scrap_qty:q
    status=created|released|confirmed|delivered|teco|closed|cancelled sales_order_id ]] },
  { "prod_component", [[
    order_id item | material_id plant_id need_date:d req_qty:q issued_qty:q final_issue:b deleted:b bulk:b
    phantom:b ]] },
  { "prod_operation", [[
    order_id op | work_center_id start_plan:d finish_plan:d start_actual:d finish_actual:d plan_hours:q
    actual_hours:q yield_qty:q scrap_qty:q rework_qty:q done:b ]] },
  { "work_center", "work_center_id | plant_id calendar_id hours_per_week:q cost_rate:p" },
  { "inspection_lot", [[
    lot_id | origin=receipt|production|stock material_id plant_id batch ref_doc ref_line lot_qty:q
    inspected_qty:q defect_qty:q decision=A|R decision_date:d created_date:d ]] },
}

-- What a NULL cell or a missing column reads (2.9). Flags read 0 but for those given here; false: no default at all
-- (delivery_line.issued: NULL means "as actual_gi says").
local defaults = {
  ["po_line.gr_required"] = "1", ["po_line.ir_expected"] = "1", ["delivery_line.issued"] = false,
  ["goods_receipt.kind"] = "receipt", ["invoice.kind"] = "invoice",
  ["stock.special"] = "own", ["stock.stock_type"] = "unrestricted", ["stock_move.special"] = "own",
  ["stock_count.special"] = "own",
  -- The place of a movement or a count is the key of a stock, and reads as that one does.
  ["stock_move.sloc"] = "", ["stock_move.batch"] = "", ["stock_count.sloc"] = "", ["stock_count.batch"] = "",
  ["po_line.over_tol"] = "0", ["po_line.under_tol"] = "0", ["sales_line.under_tol"] = "0",
  ["production_order.plan_scrap_pct"] = "0",
}

-- Columns that name the same things under different names.
local domains = {
  from_cur = "currency", to_cur = "currency", doc_currency = "currency",
  from_uom = "uom", to_uom = "uom", base_uom = "uom", price_uom = "uom",
  po_line = "line", order_line = "line", contract_line = "line", created_by = "user", approved_by = "user",
}

local function parse_column(table_name, text, key)
  local head, words = text:match("^([^=]+)=(.+)$")
  local name, kind = (head or text):match("^([%w_]+%??):?([%w%%]*)$")
  local optional = name:sub(-1) == "?"
  name = optional and name:sub(1, -2) or name
  local col = { name = name, type = kind ~= "" and kind or "id", domain = domains[name] or name }
  local default = defaults[table_name .. "." .. name]
  -- One company without a name is a company: its documents compare as equal.
  if default == nil and (key and col.type == "id" or name == "company_id") then default = "" end
  if default == nil and col.type == "b" then default = "0" end
  col.default = default or nil
  if key then col.key, col.optional = true, optional or nil end
  if words then
    col.values = {}
    for word in words:gmatch("[^|]+") do col.values[#col.values + 1] = word end
  end
  return col
end

---@type table<string, erp.TableDef>
M.tables = {}
---@type string[] table names in the order of the specification
M.order = {}

for i, entry in ipairs(spec) do
  local name, keys, rest = entry[1], entry[2]:match("^%s*(.-) |%s+(.*)$")
  local def = { name = name, columns = {}, column = {} }
  local function add(text, key)
    local col = parse_column(name, text, key)
    def.columns[#def.columns + 1], def.column[col.name] = col, col
  end
  for text in keys:gmatch("%S+") do add(text, true) end
  for text in rest:gmatch("%S+") do add(text, false) end
  if not def.column.company_id then add("company_id", false) end
  M.tables[name], M.order[i] = def, name
end

return M
