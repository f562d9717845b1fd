"""The rules in SQL, written from the rule text of erp-rules.md and not from the scripts. Each gives
finding_key, reason, impact, severity, and ev_NAME: what the evidence must hold under NAME. A column
that ends with _eN is a whole number of 10^-N. Money and quantities are whole numbers of
10^-4, prices of 10^-6: DuckDB divides decimals as doubles."""

D = "date '2014-09-30'"

# Types of the columns after the upload, as the canonical schema has them.
M, P = "decimal(19, 4)", "decimal(19, 6)"
TYPES = {
    "hours_per_week": M, "actual_hours": M, "cost_rate": P, "unit_cost": P, "price": P, "qty": M, "net_value": M, "gross": M,
    "amount": M, "reorder_point": M, "req_qty": M, "issued_qty": M,
}

SEVERITY = """case when abs(impact) >= 100000 then 3 when abs(impact) >= 10000 then 2 when abs(impact) >= 1000 then 1 else 0 end"""


def half_away(num, den):
    """num / den rounded half away from zero, whole numbers, den > 0."""
    return f"(sign({num}) * ((2 * abs({num}) + {den}) // (2 * {den})))"


IMT_007 = """
with documents as (
  select *, ltrim(regexp_replace(upper(coalesce(reference, '')), '[^A-Z0-9]', '', 'g'), '0') ref, coalesce(entry_date, doc_date) entered
  from invoice i where posting_date <= D and status in ('posted', 'blocked', 'paid') and reversed_by is null and reverses is null
    and not exists (select 1 from invoice r where r.reverses = i.invoice_id and r.company_id = i.company_id and r.fiscal_year = i.fiscal_year)),
several as (
  select company_id, vendor_id, currency, ref, doc_date, gross from documents where kind = 'invoice' and gross > 0
  group by all having count(*) >= 2),
members as (select d.*, row_number() over w pos from documents d join several s using (company_id, vendor_id, currency, ref, doc_date, gross)
  where d.kind = 'invoice' window w as (partition by d.company_id, d.vendor_id, d.currency, d.ref, d.doc_date, d.gross order by entered, invoice_id, fiscal_year)),
memos as (select d.company_id, d.vendor_id, d.currency, d.ref, s.doc_date, -d.gross gross, min(d.entered) entered, count(*) n
  from documents d join several s on d.company_id = s.company_id and d.vendor_id = s.vendor_id and d.currency = s.currency and d.ref = s.ref and -d.gross = s.gross
    and (d.ref <> '' or d.doc_date = s.doc_date)
  where d.kind = 'credit_memo' and d.gross < 0 group by all),
kept as (select m.* from members m left join memos k using (company_id, vendor_id, currency, ref, doc_date, gross)
  where k.n is null or m.pos <> (select coalesce(max(x.pos), 1) from members x where x.company_id = m.company_id and x.vendor_id = m.vendor_id
    and x.currency = m.currency and x.ref = m.ref and x.doc_date = m.doc_date and x.gross = m.gross and x.entered <= k.entered)),
groups as (select arg_min(invoice_id || '|' || fiscal_year, pos) finding_key, case when ref = '' then 'no_reference' else 'exact' end reason,
    sum(gross) - any_value(gross) impact, count(*) filter (where status = 'paid') paid, count(*) n
  from kept group by company_id, vendor_id, currency, ref, doc_date, gross
  having count(*) >= 2 and not (count(due_date) = count(*) and count(distinct due_date) = count(*) and min(entered) = max(entered)))
select finding_key, reason, impact, case when reason = 'no_reference' then greatest(0, S - 1) when paid >= 2 then greatest(2, S) else S end severity,
  n ev_count, paid ev_paid
from groups"""

PRO_001 = """
with orders as (select p.*, v.vendor_id vid, v.status vs, v.blocked_from bf, v.approved_from af, v.approved_to atx, v.role_supplier rs, v.one_time ot
  from purchase_order p left join vendor v on v.vendor_id = p.vendor_id where p.deleted <> 1 and p.vendor_id is not null and p.order_date <= D),
hit as (select po_id, net_value, case
    when vid is null then 'unknown'
    when vs = 'deleted' and bf <= least(order_date, D) then 'deleted'
    when vs = 'blocked' and bf <= order_date then 'blocked'
    when vs in ('blocked', 'deleted') and bf is null then 'current_status'
    when order_date < af or order_date > atx then 'not_approved'
    when rs = 0 then 'role' when ot = 1 then 'one_time' end reason from orders),
lines as (select l.po_id, sum(l.net_value) value, count(*) = count(l.net_value) complete from po_line l
  where deleted <> 1 and po_id in (select po_id from hit where reason is not null) group by l.po_id),
receipts as (select po_id, line, sum(qty) q from goods_receipt where posting_date <= D and po_id in (select po_id from hit where reason is not null) group by all),
received as (select l.po_id, sum(case when q = qty then (net_value * 1000000)::hugeint
    else HALF((net_value * 10000)::hugeint * (q * 10000)::hugeint * 100, (qty * 10000)::hugeint) end) value
  from receipts r join po_line l using (po_id, line) group by all),
invoiced as (select l.po_id, sum(l.amount) value from invoice_line l join invoice i using (invoice_id, fiscal_year)
  where i.posting_date <= D and (i.status is null or i.status not in ('parked', 'cancelled')) and l.po_id in (select po_id from hit where reason is not null) group by all),
valued as (select po_id finding_key, reason, coalesce(case when complete then l.value end, net_value) impact, r.value received6, i.value invoiced
  from hit left join lines l using (po_id) left join received r using (po_id) left join invoiced i using (po_id) where reason is not null)
select finding_key, reason, impact, greatest(1, S - case when reason = 'current_status' then 1 else 0 end) severity,
  received6 ev_received_value_e6, invoiced ev_invoiced_value
from valued where reason <> 'one_time' or impact > 1000"""

INV_001 = """
with parts as (
  select material_id, plant_id, sum(qty) filter (where special = 'own' and stock_type = 'unrestricted') available from stock
  where special not in ('customer', 'project', 'sales_order') group by all),
empty as (select p.*, mp.reorder_point, mp.unit_cost from parts p left join material_plant mp using (material_id, plant_id)
  where coalesce(available, 0) <= 0 and (phase_out is null or phase_out > D)),
lines as (select l.* from sales_line l join sales_order o using (order_id) semi join empty e using (material_id, plant_id)
  where rejected <> 1 and cancelled <> 1 and order_date <= D),
due as (select s.order_id, s.line, s.sched, s.qty, coalesce(promised_date, requested_date) need, l.material_id, l.plant_id, l.qty line_qty, l.net_value
  from sales_schedule s join lines l using (order_id, line) where coalesce(promised_date, requested_date) <= D + 30),
delivered as (select order_id, order_line line, sum(qty) qty from delivery_line where cancelled <> 1 and actual_gi <= D group by all),
open as (select d.*, least(d.qty, greatest(0, sum(d.qty) over (partition by d.order_id, d.line order by need, sched) - coalesce(v.qty, 0))) open
  from due d left join delivered v using (order_id, line)),
sales as (select material_id, plant_id, sum(open) qty, min(need) first_need,
    sum(case when open = line_qty then (net_value * 1000000)::hugeint
      else HALF((net_value * 10000)::hugeint * (open * 10000)::hugeint * 100, (line_qty * 10000)::hugeint) end) value
  from open where open > 0 group by all),
components as (select c.material_id, c.plant_id, sum(req_qty - coalesce(issued_qty, 0)) qty, min(need_date) first_need
  from prod_component c join production_order o using (order_id) semi join empty e on e.material_id = c.material_id and e.plant_id = c.plant_id
  where final_issue <> 1 and phantom <> 1 and need_date <= D + 30 and status in ('created', 'released') and req_qty > coalesce(issued_qty, 0) group by all),
used as (select material_id, plant_id, -sum(qty) qty from stock_move semi join empty using (material_id, plant_id)
  where move_class in ('issue_sales', 'issue_prod', 'scrap') and posting_date > D - 90 and posting_date <= D group by all),
po_due as (select s.po_id, s.line, s.sched, s.qty, s.due_date, coalesce(confirmed_date, s.due_date) expected, l.material_id, l.plant_id
  from po_schedule s join po_line l using (po_id, line) join purchase_order p using (po_id) semi join empty e on e.material_id = l.material_id and e.plant_id = l.plant_id
  where l.deleted <> 1 and l.delivered_flag <> 1 and p.deleted <> 1 and p.order_date <= D),
po_open as (select d.*, least(d.qty, greatest(0, sum(d.qty) over (partition by d.po_id, d.line order by due_date, sched)
    - coalesce((select sum(g.qty) from goods_receipt g where g.po_id = d.po_id and g.line = d.line and g.posting_date <= D), 0))) open from po_due d),
receipts as (select material_id, plant_id, greatest(arg_min(expected, (expected, po_id, line, sched)), D) expected, arg_min(open, (expected, po_id, line, sched)) qty
  from po_open where open > 0 group by all),
fired as (select material_id, plant_id, coalesce(s.value * 10000, (c.qty * 10000)::hugeint * (unit_cost * 1000000)::hugeint, 0) e10,
    coalesce(least(s.first_need, c.first_need) < D, false) overdue, coalesce(available, 0) available, coalesce(s.qty, 0) sold, coalesce(c.qty, 0) needed,
    coalesce(u.qty, 0) consumed, r.expected, r.qty receipt
  from empty e left join sales s using (material_id, plant_id) left join components c using (material_id, plant_id) left join used u using (material_id, plant_id)
    left join receipts r using (material_id, plant_id)
  where s.qty > 0 or c.qty > 0 or reorder_point > 0 or u.qty > 0)
select material_id || '|' || plant_id finding_key, 'stock_out' reason, e10 impact_e10,
  greatest(case when overdue then 2 else 1 end, case when e10 >= 100000 * 10000000000::hugeint then 3 when e10 >= 10000 * 10000000000::hugeint then 2
    when e10 >= 1000 * 10000000000::hugeint then 1 else 0 end) severity,
  available ev_available, sold ev_sales_demand, needed ev_component_demand, consumed ev_consumption,
  strftime(expected, '%Y-%m-%d') ev_next_receipt_date, receipt ev_next_receipt_qty from fired"""

PRD_005 = """
with ops as (select *, coalesce(finish_actual, D) finish from prod_operation where start_actual <= D and actual_hours is not null),
days as (select work_center_id, start_actual, case when finish < start_actual then start_actual else finish end finish, (actual_hours * 10000)::bigint h4 from ops),
weeks as (select work_center_id, h4, finish - start_actual + 1 n, w::date as week,
    least(finish, w::date + 6) - greatest(start_actual, w::date) + 1 d
  from days, unnest(generate_series(date_trunc('week', start_actual)::date, finish, interval 7 day)) t(w)),
load as (select work_center_id, week, sum(HALF(h4 * 100 * d, n))::hugeint L6, count(*) n from weeks where week + 6 < D group by all),
working as (select calendar_id, date_trunc('week', "date")::date as week, count(*) filter (where working = 1) as n from calendar_day group by all),
capacity as (select l.*, cost_rate, case when c.n is null then (hours_per_week * 1000000)::hugeint else (hours_per_week * 1000000)::hugeint * c.n // 5 end K6
  from load l join work_center w using (work_center_id) left join working c on c.calendar_id = w.calendar_id and c.week = l.week where hours_per_week is not null)
select work_center_id || '|' || strftime(week, '%G-W%V') finding_key, 'overload' reason, (L6 - K6) * (cost_rate * 1000000)::hugeint impact_e12,
  case when K6 = 0 or L6 > 2 * K6 then 3 when L6 * 2 > K6 * 3 then 2 else 1 end severity,
  L6 ev_load_e6, K6 ev_capacity_e6, n ev_operations
from capacity where L6 > K6"""


def expand(sql):
    """D, S and HALF(a, b) written out."""
    out = sql.replace(" S ", f" ({SEVERITY}) ").replace("(0, S", f"(0, ({SEVERITY})").replace("(1, S", f"(1, ({SEVERITY})")
    out = out.replace("(2, S)", f"(2, ({SEVERITY}))").replace("else S end", f"else ({SEVERITY}) end")
    while "HALF(" in out:
        at = out.index("HALF(")
        depth, parts, start = 0, [], at + 5
        for i in range(at + 4, len(out)):
            if out[i] == "(":
                depth += 1
            elif out[i] == ")":
                depth -= 1
            if (out[i] == "," and depth == 1) or depth == 0:
                parts.append(out[start:i])
                start = i + 1
            if depth == 0:
                break
        out = out[:at] + half_away(f"({parts[0].strip()})", f"({parts[1].strip()})") + out[i + 1:]
    import re
    return re.sub(r"\bD\b", D, out)


RULES = {"IMT-007": expand(IMT_007), "INV-001": expand(INV_001), "PRD-005": expand(PRD_005), "PRO-001": expand(PRO_001)}
