"""Data for the sweep benchmark: canonical CSV files of N rows a table, made by DuckDB from hashes of
row numbers, so that the same seed gives the same bytes. Cases and traps are a few in a thousand."""

# u(salt): a number 0..999999 that depends on the row i and the salt alone.
# regular(i): every tenth order is one of a few vendors for a few materials, so that these have a history of prices.
# cents(i): price of a piece in order i, pieces(i): its quantity.
MACRO = """
    create macro u(i, salt) as (hash(i, salt, 42) % 1000000)::bigint;
    create macro regular(i) as i % 10 = 3;
    create macro cents(i) as case when regular(i) then 5000 + u(i, 16) % 200 + case when u(i, 18) < 10000 then 1500 else 0 end
      else 100 + u(i, 16) % 100000 end;
    create macro pieces(i) as 1 + u(i, 15) % 300"""

TABLES = {
    "company": "select 'C1' company_id, 'One' name, 'USD' currency, 'US' country",
    "approval_policy": """
        select 'C1' company_id, 'NB' doc_type, i + 1 "level", case i when 0 then 40000 else 200000 end min_amount, 'USD' currency,
          case i when 0 then 200000 else 290000 end approver_limit from range(2) t(i)""",
    "tax_code": """
        select 'US' country, c tax_code, case when half = 1 and c = 'A' then date '2014-04-01' else date '2010-01-01' end valid_from,
          case when half = 0 then date '2014-03-31' end valid_to, case when c = 'R' then 8.0 else 5.5 + half end rate,
          case when c = 'R' then 'reverse' else 'input' end kind
        from (values ('A'), ('R')) c(c), range(2) h(half) where c = 'A' or half = 1""",
    "vendor": """
        select 'V' || lpad(i::varchar, 6, '0') vendor_id, 'Vendor ' || i name,
          case when u(i, 1) < 4000 then 'blocked' when u(i, 1) < 5000 then 'deleted' else 'active' end status,
          case when u(i, 1) < 5000 and u(i, 2) < 700000 then date '2013-06-01' + (u(i, 3) % 500)::int end blocked_from,
          date '2010-01-01' approved_from,
          case when u(i, 4) < 2000 then date '2014-03-01' + (u(i, 5) % 150)::int end approved_to,
          case when u(i, 6) < 3000 then 0 else 1 end role_supplier,
          case when u(i, 7) < 1000 then 1 else 0 end one_time,
          case when u(i, 8) < 1500 then 4 + u(i, 9) % 2 else 1 + u(i, 9) % 3 end rating
        from range($n // 50) t(i)""",
    "purchase_order": """
        select 'PO' || lpad(i::varchar, 8, '0') po_id, 'C1' company_id,
          case when u(i, 11) < 300 then 'X' || i when regular(i) then 'V' || lpad((u(i, 12) % greatest($n // 5000, 20))::varchar, 6, '0')
            else 'V' || lpad((u(i, 12) * 7919 % greatest($n // 50, 1))::varchar, 6, '0') end vendor_id,
          date '2013-10-01' + (u(i, 13) % 360)::int order_date, 'U' || u(i, 14) % 50 created_by, 'USD' currency,
          (pieces(i) * cents(i))::decimal(18, 2) / 100 net_value, case when u(i, 17) < 5000 then 1 else 0 end deleted,
          case when u(i, 19) < 50000 then 'XX' else 'NB' end doc_type,
          case when u(i, 181) < 2000 then 'rejected' when u(i, 181) < 6000 then 'pending' when u(i, 181) < 8000 then 'partial'
            when u(i, 181) < 300000 then 'not_required' else 'approved' end approval,
          case when u(i, 181) >= 300000 then date '2013-09-01' + (u(i, 182) % 80)::int + case when u(i, 183) < 5000 then 200 else 0 end end approved_date,
          case when u(i, 184) < 700 then 'U' || u(i, 14) % 50 when u(i, 181) >= 300000 then 'M' || u(i, 185) % 9 end approved_by,
          case when u(i, 186) < 300000 then 1 else 0 end sent, case when u(i, 186) < 250000 then date '2013-12-10' + (u(i, 187) % 350)::int end sent_date
        from range($n) t(i)""",
    "po_line": """
        select 'PO' || lpad(i::varchar, 8, '0') po_id, '10' line,
          'M' || lpad(case when regular(i) then u(i, 21) % 5 else u(i, 21) % greatest($n // 5, 1) end::varchar, 7, '0') material_id,
          'P' || u(i, 22) % 3 plant_id, pieces(i)::decimal(18, 3) qty, (cents(i) * case when u(i, 28) < 100000 then 100 else 1 end)::decimal(18, 4) / 100 price,
          case when u(i, 28) < 100000 then 100 else 1 end price_unit, (pieces(i) * cents(i))::decimal(18, 2) / 100 net_value,
          case when u(i, 191) < 3000 then 1 else 0 end free, case when u(i, 192) < 3000 then 'consignment' else 'standard' end item_cat,
          case when u(i, 193) < 50000 and not regular(i) then 'K' || i end contract_id, case when u(i, 193) < 50000 and not regular(i) then '1' end contract_line,
          case when u(i, 23) < 2000 then 1 else 0 end deleted, case when u(i, 24) < 600000 then 1 else 0 end delivered_flag
        from range($n) t(i)""",
    "po_schedule": """
        select po_id, line, '1' sched, qty, date '2014-08-01' + (u(rowid, 25) % 120)::int due_date,
          case when u(rowid, 26) < 300000 then date '2014-08-01' + (u(rowid, 27) % 150)::int end confirmed_date from po_line""",
    "goods_receipt": """
        select 'GR' || lpad(i::varchar, 8, '0') gr_id, '2014' fiscal_year, '1' gr_line, 'PO' || lpad((i * 7919 % $n)::varchar, 8, '0') po_id,
          '10' line, date '2014-01-01' + (u(i, 31) % 300)::int posting_date, (1 + u(i, 32) % 200)::decimal(18, 3) qty
        from range($n) t(i)""",
    # Every 400th document repeats an earlier one; of these some are reversed, credited or instalments.
    "invoice": """
        with base as (select i, case when i % 400 = 399 then i - 200 - u(i, 41) % 150 else i end b, i % 400 = 399 copy from range($n) t(i))
        select 'I' || lpad(i::varchar, 8, '0') invoice_id, '2014' fiscal_year, 'C1' company_id,
          'V' || lpad((u(b, 42) % greatest($n // 50, 1))::varchar, 6, '0') vendor_id,
          case when u(b, 43) < 20000 then null when copy and u(i, 44) < 500000 then 'r ' || lpad(b::varchar, 9, '0') || '/A' else 'R-' || b || 'a' end reference,
          date '2013-12-01' + (u(b, 45) % 300)::int doc_date, date '2013-12-01' + (u(b, 45) % 300)::int + case when copy then 9 else 2 end posting_date,
          date '2013-12-01' + (u(b, 45) % 300)::int + case when copy and u(i, 47) < 900000 then 9 else 2 end entry_date, 'USD' currency,
          (100 + u(b, 46) % 900000)::decimal(18, 2) / 100 * case when u(i, 49) < 3000 then -1 else 1 end gross,
          case when u(i, 49) < 3000 then 'credit_memo' else 'invoice' end kind,
          case when u(i, 50) < 10000 then 'parked' when u(i, 50) < 20000 then 'cancelled' when u(i, 50) < 600000 then 'paid' else 'posted' end status,
          case when copy and u(i, 51) < 100000 then 'S' || i end reversed_by, null reverses, 'U' || u(i, 52) % 50 created_by,
          date '2014-01-15' + (u(b, 45) % 300)::int + case when copy and u(i, 53) < 500000 then 30 else 0 end due_date
        from base
        union all -- credit memos for one invoice in two thousand, and for some copies
        select 'K' || lpad(i::varchar, 8, '0'), '2014', 'C1', 'V' || lpad((u(b, 42) % greatest($n // 50, 1))::varchar, 6, '0'),
          case when u(b, 43) < 20000 then null else 'R-' || b || 'a' end, date '2013-12-01' + (u(b, 45) % 300)::int,
          date '2013-12-01' + (u(b, 45) % 300)::int + 12, date '2013-12-01' + (u(b, 45) % 300)::int + 12, 'USD',
          -((100 + u(b, 46) % 900000)::decimal(18, 2) / 100), 'credit_memo', 'posted', null, null, 'U1', null
        from base where (not copy and i % 2000 = 7) or (copy and i % 4000 = 399)""",
    "invoice_line": """
        select 'I' || lpad(i::varchar, 8, '0') invoice_id, '2014' fiscal_year, '1' line, 'PO' || lpad((i * 104729 % $n)::varchar, 8, '0') po_id,
          '10' po_line, (1 + u(i, 61) % 100)::decimal(18, 3) qty, (100 + u(i, 62) % 900000)::decimal(18, 2) / 100 amount
        from range($n) t(i)""",
    "contract": """
        select 'K' || i contract_id, '1' line, (cents(i) * case when u(i, 194) < 20000 then 80 else 100 end)::decimal(18, 4) / 10000 price, 1 price_unit,
          'USD' currency from range($n) t(i) where u(i, 193) < 50000 and not regular(i) and u(i, 195) < 900000""",
    # Nearly every other line has a list price of its vendor; a few of them end or begin too early or too late.
    "vendor_price": """
        select vendor_id, material_id, case when min(u(i, 201)) < 100000 then min(plant_id) else '' end plant_id,
          date '2013-01-01' + case when min(u(i, 202)) < 10000 then 500 else 0 end valid_from,
          case when min(u(i, 203)) < 10000 then date '2014-03-01' end valid_to, 1 price_unit, 'USD' currency,
          min(cents(i) * case when u(i, 204) < 3000 then 80 when u(i, 204) < 500000 then 96 else 100 end)::decimal(18, 4) / 10000 price
        from (select vendor_id, material_id, plant_id, substr(po_id, 3)::bigint i from purchase_order join po_line using (po_id))
        where not regular(i) and u(i, 205) < 997000 group by vendor_id, material_id""",
    "vendor_cert": """
        select 'V' || lpad((i // 2)::varchar, 6, '0') vendor_id, 'T' || i % 2 cert_type,
          case when u(i, 211) < 990000 then date '2012-01-01' + case when u(i, 212) < 1000 then 800 else 0 end end valid_from,
          case when u(i, 213) < 1000 then date '2014-03-01' when u(i, 213) < 995000 then date '2016-01-01' end valid_to,
          case when u(i, 214) < 600000 then 1 else 0 end mandatory from range($n // 50 * 2) t(i)""",
    "source_list": """
        select material_id, plant_id, vendor_id, min(date '2013-10-01' + (u(i, 222) % 200)::int) valid_from,
          max(case when u(i, 223) < 300000 then date '2014-05-01' else date '2015-01-01' end) valid_to, max(case when u(i, 224) < 100000 then 1 else 0 end) blocked
        from (select material_id, plant_id, vendor_id, substr(po_id, 3)::bigint i from po_line join purchase_order using (po_id))
        where u(i, 221) < 1500 and not regular(i) group by all""",
    "tax_item": """
        with items as (select i, date '2014-01-01' + (u(i, 231) % 300)::int as day, (100 + u(i, 232) % 9000000) * case when u(i, 233) < 20000 then -1 else 1 end base,
            1 + u(i, 234) % 5 n, case when u(i, 235) < 5000 then 'R' when u(i, 235) < 6000 then 'Q' else 'A' end code from range($n) t(i)),
          rated as (select *, case when code = 'R' then 80 when day < date '2014-04-01' then 55 else 65 end rate from items)
        select 'C1' company_id, 'I' || lpad((case when code = 'R' then i - i % 2 else i end)::varchar, 8, '0') doc_id, '2014' fiscal_year, i::varchar line, code tax_code,
          day tax_date, 'in' direction, base::decimal(18, 2) / 100 base_doc,
          (sign(base) * ((abs(base) * rate + 500) // 1000) + case when u(i, 236) < 5000 then u(i, 237) % 20 - 10 when u(i, 236) < 6000 then u(i, 238) else u(i, 239) % 3 - 1 end)
            ::decimal(18, 2) / 100 tax_doc, n base_lines, 'USD' currency, case when u(i, 240) < 2000 then 1 else 0 end direct
        from rated""",
    "material": "select 'M' || lpad(i::varchar, 7, '0') material_id, 'EA' base_uom from range($n // 5) t(i)",
    "material_plant": """
        select 'M' || lpad((i // 3)::varchar, 7, '0') material_id, 'P' || i % 3 plant_id,
          case when u(i, 71) < 500000 then 0 else u(i, 72) % 100 end::decimal(18, 3) reorder_point,
          case when u(i, 76) < 300000 then 0 else u(i, 77) % 400 end::decimal(18, 3) safety_stock, u(i, 78) % 60 lead_time_days,
          (10 + u(i, 73) % 50000)::decimal(18, 4) / 100 unit_cost, 1 price_unit, 'USD' currency, case when u(i, 79) < 100000 then 1 else 0 end neg_allowed,
          case when u(i, 74) < 30000 then date '2014-01-01' + (u(i, 75) % 500)::int end phase_out
        from range($n // 5 * 3) t(i)""",
    # Five rows a material and plant: three storage places, quality, consignment; one in 200 is empty, one row in a thousand negative.
    "stock": """
        select 'M' || lpad((i // 15)::varchar, 7, '0') material_id, 'P' || (i // 5) % 3 plant_id, 'S' || least(i % 5, 3) sloc,
          case when i % 5 = 4 then 'vendor_consign' when u(i // 5, 80) < 1000 then 'sales_order' else 'own' end special,
          case when i % 5 = 3 then 'quality' else 'unrestricted' end stock_type,
          case when u(i // 5, 81) < 5000 and i % 5 < 3 then 0 when u(i, 83) < 1000 then -1 - (u(i, 84) % 20) else u(i, 82) % 400 end::decimal(18, 3) qty
        from range($n) t(i)""",
    "stock_move": """
        select 'MV' || lpad(i::varchar, 8, '0') move_id, '1' line, 'M' || lpad((u(i, 91) % greatest($n // 15, 1))::varchar, 7, '0') material_id,
          'P' || u(i, 92) % 3 plant_id, 'S' || u(i, 97) % 4 sloc, date '2013-10-01' + (u(i, 93) % 365)::int posting_date,
          case u(i, 94) % 6 when 0 then 'receipt' when 1 then 'issue_sales' when 2 then 'issue_prod' when 3 then 'scrap' when 4 then 'transfer' else 'issue_sales' end move_class,
          ((1 + u(i, 95) % 50) * case when u(i, 94) % 6 in (0, 4) then 1 when u(i, 96) < 20000 then 1 else -1 end)::decimal(18, 3) qty
        from range($n) t(i)""",
    "sales_order": """
        select 'SO' || lpad(i::varchar, 8, '0') order_id, 'K' || u(i, 101) % 1000 customer_id, date '2014-01-01' + (u(i, 102) % 260)::int order_date,
          'USD' currency, case when u(i, 103) < 10000 then 1 else 0 end cancelled from range($n // 2) t(i)""",
    "sales_line": """
        select 'SO' || lpad((i // 2)::varchar, 8, '0') order_id, (10 * (1 + i % 2))::varchar line,
          'M' || lpad((u(i, 111) % greatest($n // 15, 1))::varchar, 7, '0') material_id, 'P' || u(i, 112) % 3 plant_id,
          (2 + 2 * (u(i, 113) % 100))::decimal(18, 3) qty, ((2 + 2 * (u(i, 113) % 100)) * (100 + u(i, 114) % 9000))::decimal(18, 2) / 100 net_value,
          case when u(i, 115) < 10000 then 1 else 0 end rejected from range($n) t(i)""",
    # Half of the lines have two schedule lines.
    "sales_schedule": """
        select order_id, line, s::varchar sched, case when n = 2 then qty / 2 else qty end::decimal(18, 3) qty,
          date '2014-06-01' + (u(rowid, 121) % 150)::int + (14 * (s - 1))::int requested_date,
          case when u(rowid, 122) < 800000 then date '2014-06-03' + (u(rowid, 121) % 150)::int + (14 * (s - 1))::int end promised_date
        from (select *, rowid, 1 + rowid % 2 n from sales_line) l, range(1, 3) r(s) where s <= n""",
    # Nearly all goods are issued a few days before the first date; a line in ten gets a rest later.
    "delivery_line": """
        with lines as (select *, rowid i, date '2014-06-01' + (u(rowid, 121) % 150)::int as day from sales_line)
        select 'D' || lpad(i::varchar, 8, '0') delivery_id, '1' line, order_id, line order_line,
          (qty * (u(i, 131) % 5) / 4)::decimal(18, 3) qty,
          case when u(i, 132) < 900000 then day + case when u(i, 133) < 4000 then 3 + (u(i, 135) % 30)::int else -(u(i, 135) % 6)::int end end actual_gi,
          case when u(i, 134) < 10000 then 1 else 0 end cancelled, case when u(i, 136) < 10000 then 1 else 0 end is_return from lines where u(i, 130) < 800000
        union all
        select 'E' || lpad(i::varchar, 8, '0'), '1', order_id, line, (qty / 4)::decimal(18, 3), day - (u(i, 138) % 5)::int + case when u(i, 139) < 20000 then 9 else 0 end, 0, 0 from lines where u(i, 137) < 100000""",
    # One in three is for a sales order, over the material of its first line.
    "production_order": """
        select 'MO' || lpad(i::varchar, 8, '0') order_id, 'P' || u(case when sold then 2 * i else i end, case when sold then 112 else 141 end) % 3 plant_id,
          'M' || lpad((u(case when sold then 2 * i else i end, 111) % greatest($n // 15, 1))::varchar, 7, '0') material_id,
          case when sold then 'SO' || lpad(i::varchar, 8, '0') end sales_order_id, (1 + u(i, 145) % 40)::decimal(18, 3) qty,
          case u(i, 142) % 4 when 0 then 'created' when 1 then 'released' when 2 then 'delivered' else 'closed' end status,
          case when u(i, 142) % 4 < 2 then date '2014-09-20' + (u(i, 146) % 300)::int else date '2014-06-01' + (u(i, 146) % 120)::int end finish_plan,
          case when u(i, 142) % 4 >= 2 then least(date '2014-09-30', date '2014-06-01' + (u(i, 146) % 120)::int + case when u(i, 147) < 50000 then u(i, 148) % 30 else 0 end::int) end finish_actual,
          case when u(i, 149) < 500000 then 0 else u(i, 149) % 5 end::decimal(18, 2) plan_scrap_pct, (u(i, 145) % 40)::decimal(18, 3) yield_qty,
          case when u(i, 150) < 30000 then u(i, 150) % 7 else 0 end::decimal(18, 3) scrap_qty
        from (select i, u(i, 144) < 300000 sold from range($n // 4) t(i))""",
    "prod_component": """
        select 'MO' || lpad((i // 4)::varchar, 8, '0') order_id, (i % 4)::varchar item, 'M' || lpad((u(i, 151) % greatest($n // 15, 1))::varchar, 7, '0') material_id,
          'P' || u(i, 152) % 3 plant_id, date '2014-06-01' + (u(i, 153) % 180)::int need_date, (1 + u(i, 154) % 80)::decimal(18, 3) req_qty,
          (u(i, 155) % 80)::decimal(18, 3) issued_qty, case when u(i, 156) < 300000 then 1 else 0 end final_issue, case when u(i, 157) < 20000 then 1 else 0 end phantom
        from range($n) t(i)""",
    "work_center": """
        select 'W' || lpad(i::varchar, 3, '0') work_center_id, 'P' || i % 3 plant_id, case when i = 7 then 0 else (620 + u(i, 161) % 400) * $n // 1000 / 1000 end::decimal(18, 3) hours_per_week,
          case when i % 4 = 0 then 'CAL' end calendar_id, (20 + u(i, 162) % 80)::decimal(18, 4) cost_rate from range(200) t(i)""",
    "calendar_day": """
        select 'CAL' calendar_id, date '2012-01-02' + i::int as "date", case when i % 7 >= 5 or u(i, 163) < 30000 then 0 else 1 end working from range(1100) t(i)""",
    "prod_operation": """
        select 'MO' || lpad((i // 4)::varchar, 8, '0') order_id, (10 * (1 + i % 4))::varchar op, 'W' || lpad((u(i, 171) % 200)::varchar, 3, '0') work_center_id,
          date '2011-12-01' + (u(i, 172) % 1030)::int start_actual,
          case when u(i, 173) < 990000 then date '2011-12-01' + (u(i, 172) % 1030)::int + (u(i, 174) % 21)::int end finish_actual,
          (1 + u(i, 175) % 300)::decimal(18, 1) / 10 actual_hours, case when u(i, 173) < 990000 then 1 else 0 end done,
          date '2011-12-01' + (u(i, 172) % 1030)::int - (u(i, 176) % 4)::int start_plan, date '2011-12-01' + (u(i, 172) % 1030)::int + (u(i, 177) % 30)::int finish_plan
        from range($n) t(i)""",
    # Two in three are of receipts, with the order's line behind them.
    "inspection_lot": """
        select 'L' || lpad(i::varchar, 8, '0') lot_id, case when i % 3 = 0 then 'production' else 'receipt' end origin,
          'M' || lpad((u(i, 181) % greatest($n // 15, 1))::varchar, 7, '0') material_id, 'P' || u(i, 182) % 3 plant_id,
          'PO' || lpad((i * 7907 % $n)::varchar, 8, '0') ref_doc, '10' ref_line, (10 + u(i, 183) % 200)::decimal(18, 3) lot_qty,
          case when u(i, 184) < 300000 then 10 + u(i, 183) % 200 when u(i, 184) < 600000 then 5 end::decimal(18, 3) inspected_qty,
          case when u(i, 185) < 6000 then u(i, 186) % 10 when u(i, 185) < 900000 then 0 end::decimal(18, 3) defect_qty,
          case when u(i, 187) < 2000 then 'R' when u(i, 187) < 900000 then 'A' end decision,
          case when u(i, 187) < 900000 then date '2014-01-03' + (u(i, 188) % 275)::int end decision_date, date '2014-01-01' + (u(i, 188) % 275)::int created_date
        from range($n) t(i)""",
}


def make(db, folder, n):
    """Tables in the connection and <folder>/<table>.csv."""
    db.execute(MACRO)
    for name, sql in TABLES.items():
        db.execute(f"create or replace table {name} as " + sql.replace("$n", str(n)))
        db.execute(f"copy {name} to '{folder}/{name}.csv' (header, delimiter ',')")
