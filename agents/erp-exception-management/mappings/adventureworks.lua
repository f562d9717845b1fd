-- Microsoft AdventureWorks OLTP, purchasing, inventory and production (erp-rules.md, 4.1).
-- There is no goods receipt date, and quantities and prices of a vendor are stated in one unit on order and price list:
-- neither dates of receipt nor units are mapped. ModifiedDate is a record stamp and is not mapped either.
local usd, plant, item = { const = "USD" }, { const = "AW" }, "PurchaseOrderDetailID"

local received = { "ReceivedQty", "gt", "0" }

local function rates(kind, column)
  return { from = "CurrencyRate", columns = { rate_type = { const = kind }, from_cur = "FromCurrencyCode",
    to_cur = "ToCurrencyCode", valid_from = "CurrencyRateDate", rate = column } }
end

mapping {
  name = "adventureworks",
  company = "AW",
  currency = "USD",
  as_of = "2014-09-30",
  params = { ["FIN-008.cent"] = "0.0001", ["PRD-005.mode"] = "history", ["PRD-006.mode"] = "history" },
  tables = {
    company = { rows = { { company_id = "AW", name = "AW", currency = "USD", country = "US" } } },
    plant = { rows = { { plant_id = "AW", company_id = "AW" } } },
    currency = { rows = { { currency = "USD", decimals = "2" } } },
    tax_code = { rows = { { country = "US", tax_code = "I8", valid_from = "1900-01-01", rate = "8", kind = "input" } } },
    fx_rate = { rates("M", "AverageRate"), rates("E", "EndOfDayRate") },
    vendor = { from = "Vendor", columns = {
      vendor_id = "BusinessEntityID", name = "Name", rating = "CreditRating",
      status = { from = "ActiveFlag", map = { ["1"] = "active" }, default = "blocked" } } },
    vendor_price = { from = "ProductVendor", columns = {
      vendor_id = "BusinessEntityID", material_id = "ProductID", valid_from = { const = "1900-01-01" },
      valid_to = { const = false }, price = "StandardPrice", price_unit = { const = "1" }, currency = usd } },
    material = { from = "Product", columns = {
      material_id = "ProductID", procurement = { from = "MakeFlag", map = { ["1"] = "make" }, default = "buy" } } },
    material_plant = { from = "Product", columns = {
      material_id = "ProductID", plant_id = plant, safety_stock = "SafetyStockLevel", reorder_point = "ReorderPoint",
      unit_cost = "StandardCost", price_unit = { const = "1" }, currency = usd, phase_out = "SellEndDate" } },
    stock = { from = "ProductInventory", columns = {
      material_id = "ProductID", plant_id = plant, sloc = "LocationID", special = { const = "own" },
      stock_type = { const = "unrestricted" }, qty = "Quantity" } },
    purchase_order = { from = "PurchaseOrderHeader", columns = {
      po_id = "PurchaseOrderID", vendor_id = "VendorID", created_date = "OrderDate", order_date = "OrderDate",
      created_by = "EmployeeID", currency = usd, net_value = "SubTotal",
      approval = { from = "Status", map = { ["1"] = "pending", ["2"] = "approved", ["3"] = "rejected", ["4"] = "approved" } } } },
    po_line = { from = "PurchaseOrderDetail", columns = {
      po_id = "PurchaseOrderID", line = item, material_id = "ProductID", plant_id = plant, qty = "OrderQty",
      price = "UnitPrice", price_unit = { const = "1" }, net_value = "LineTotal", item_cat = { const = "standard" },
      gr_required = { const = "1" } } },
    po_schedule = { from = "PurchaseOrderDetail", columns = {
      po_id = "PurchaseOrderID", line = item, sched = { const = "1" }, due_date = "DueDate", qty = "OrderQty" } },
    goods_receipt = { from = "PurchaseOrderDetail", where = received, columns = {
      gr_id = "PurchaseOrderID", gr_line = item, po_id = "PurchaseOrderID", line = item, qty = "ReceivedQty",
      kind = { const = "receipt" } } },
    inspection_lot = { from = "PurchaseOrderDetail", where = received, columns = {
      lot_id = item, origin = { const = "receipt" }, material_id = "ProductID", plant_id = plant,
      ref_doc = "PurchaseOrderID", ref_line = item, lot_qty = "ReceivedQty", defect_qty = "RejectedQty" } },
    tax_item = { from = "PurchaseOrderHeader", columns = {
      doc_id = "PurchaseOrderID", line = { const = "1" }, tax_code = { const = "I8" }, tax_date = "OrderDate",
      direction = { const = "in" }, base_doc = "SubTotal", tax_doc = "TaxAmt", currency = usd, partner_id = "VendorID",
      base_lines = { count = "PurchaseOrderDetail", on = { PurchaseOrderID = "PurchaseOrderID" } } } },
    production_order = { from = "WorkOrder", columns = {
      order_id = "WorkOrderID", plant_id = plant, material_id = "ProductID", qty = "OrderQty",
      plan_scrap_pct = { const = "0" }, finish_plan = "DueDate", start_actual = "StartDate", finish_actual = "EndDate",
      yield_qty = "StockedQty", scrap_qty = "ScrappedQty",
      status = { from = "EndDate", null = "released", notnull = "delivered" } } },
    prod_operation = { from = "WorkOrderRouting", columns = {
      order_id = "WorkOrderID", op = "OperationSequence", work_center_id = "LocationID", start_plan = "ScheduledStartDate",
      finish_plan = "ScheduledEndDate", start_actual = "ActualStartDate", finish_actual = "ActualEndDate",
      actual_hours = "ActualResourceHrs", done = { from = "ActualEndDate", null = "0", notnull = "1" } } },
    work_center = { from = "Location", columns = {
      work_center_id = "LocationID", plant_id = plant, hours_per_week = "Availability", cost_rate = "CostRate" } },
  },
}
