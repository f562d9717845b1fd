--- The files of the demo company: canonical tables with the columns that the generator fills, in file order.
local columns = {
  company = "company_id name currency country",
  plant = "plant_id company_id calendar_id neg_stock_allowed",
  currency = "currency decimals",
  fx_rate = "rate_type from_cur to_cur valid_from rate",
  uom_conv = "material_id from_uom to_uom num den",
  tax_code = "country tax_code valid_from valid_to rate kind",
  calendar_day = "calendar_id date working",
  approval_policy = "company_id doc_type level min_amount currency approver_limit",
  vendor = "vendor_id name country status blocked_from approved_from approved_to rating tax_id bank_key one_time intercompany role_supplier po_required",
  vendor_cert = "vendor_id cert_type valid_from valid_to mandatory",
  vendor_price = "vendor_id material_id plant_id valid_from valid_to price price_unit uom currency",
  source_list = "material_id plant_id vendor_id valid_from valid_to blocked",
  contract = "contract_id line vendor_id kind valid_from valid_to target_qty currency material_id price price_unit uom deleted",
  customer = "customer_id name credit_account_id credit_limit currency on_hold hold_from segment",
  material = "material_id type base_uom group abc procurement batch_managed valuated first_receipt",
  material_plant = "material_id plant_id safety_stock reorder_point max_stock lead_time_days unit_cost price_unit currency phase_out neg_allowed",
  purchase_order = "po_id company_id vendor_id doc_type created_date created_by order_date currency fx_rate approval approved_date approved_by net_value purch_group sent sent_date deleted",
  po_line = "po_id line material_id plant_id qty uom price price_unit price_uom net_value tax_code item_cat gr_required ir_expected " ..
    "over_tol under_tol delivered_flag invoiced_flag is_return free est_price contract_id contract_line deleted",
  po_schedule = "po_id line sched due_date qty",
  goods_receipt = "gr_id fiscal_year gr_line po_id line posting_date entry_date qty amount_cc movement reverses kind",
  invoice = "invoice_id fiscal_year company_id vendor_id reference doc_date posting_date entry_date currency fx_rate gross tax kind status reverses reversed_by created_by due_date pay_date is_recurring",
  invoice_line = "invoice_id fiscal_year line po_id po_line gr_id qty amount tax_code line_kind",
  tax_item = "company_id doc_id fiscal_year line tax_code tax_date direction base_doc tax_doc base_lines expected_doc currency direct partner_id",
  stock = "material_id plant_id sloc batch special stock_type qty",
  stock_move = "move_id line material_id plant_id sloc batch special posting_date qty move_class ref_doc reverses",
  sales_order = "order_id customer_id credit_account_id order_date currency ship_complete delivery_block credit_status cancelled",
  sales_line = "order_id line material_id plant_id qty uom net_price price_unit net_value tax under_tol rejected",
  sales_schedule = "order_id line sched requested_date promised_date qty",
  delivery_line = "delivery_id line order_id order_line qty planned_gi actual_gi pod_date issued billed_qty is_return cancelled",
  production_order = "order_id plant_id material_id qty plan_scrap_pct start_plan finish_plan start_actual finish_actual yield_qty scrap_qty status sales_order_id",
  prod_component = "order_id item material_id plant_id need_date req_qty issued_qty final_issue deleted bulk phantom",
  prod_operation = "order_id op work_center_id start_plan finish_plan start_actual finish_actual plan_hours actual_hours yield_qty scrap_qty done",
  work_center = "work_center_id plant_id calendar_id hours_per_week cost_rate",
  inspection_lot = "lot_id origin material_id plant_id ref_doc ref_line lot_qty inspected_qty defect_qty decision decision_date created_date",
  labels = "rule_id finding_key must reason severity impact_amount impact_currency case_id primary trap",
}

---@type table<string, string[]>
local M = {}
for name, text in pairs(columns) do
  local list = {}
  for column in text:gmatch("%S+") do list[#list + 1] = column end
  M[name] = list
end

return M
