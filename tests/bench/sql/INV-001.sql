with parts as (
  select material_id, plant_id, sum(qty) filter (where special = 'own' and stock_type = 'unrestricted') available from stock
  where special not in ('customer', 'project', 'sales_order') group by all),
empty as (select p.*, mp.reorder_point, mp.unit_cost from parts p left join material_plant mp using (material_id, plant_id)
  where coalesce(available, 0) <= 0 and (phase_out is null or phase_out > D)),
lines as (select l.* from sales_line l join sales_order o using (order_id) semi join empty e using (material_id, plant_id)
  where rejected <> 1 and cancelled <> 1 and order_date <= D),
due as (select s.order_id, s.line, s.sched, s.qty, coalesce(promised_date, requested_date) need, l.material_id, l.plant_id, l.qty line_qty, l.net_value
  from sales_schedule s join lines l using (order_id, line) where coalesce(promised_date, requested_date) <= D + 30),
delivered as (select order_id, order_line line, sum(qty) qty from delivery_line where cancelled <> 1 and is_return <> 1 and actual_gi <= D group by all),
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
  strftime(expected, '%Y-%m-%d') ev_next_receipt_date, receipt ev_next_receipt_qty from fired
