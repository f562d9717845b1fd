with stocked as (select material_id, plant_id, coalesce(sum(qty) filter (where special = 'own' and stock_type = 'unrestricted'), 0) a from stock
  where special not in ('customer', 'project', 'sales_order') group by all),
low as (select m.*, a, case when a < reorder_point and not (a < safety_stock and safety_stock < reorder_point) then 'reorder' else 'safety' end reason
  from material_plant m join stocked using (material_id, plant_id)
  where (phase_out is null or phase_out > D) and ((reorder_point > 0 and a < reorder_point) or (safety_stock > 0 and a < safety_stock))),
-- What INV-001 reports: nothing left, and planned, in demand or used of late.
empty as (select material_id, plant_id from low where a <= 0),
lines as (select l.* from sales_line l join sales_order o using (order_id) semi join empty e using (material_id, plant_id) where rejected <> 1 and cancelled <> 1 and order_date <= D),
due as (select s.order_id, s.line, s.qty, l.material_id, l.plant_id, sum(s.qty) over (partition by s.order_id, s.line order by coalesce(promised_date, requested_date), sched) needed
  from sales_schedule s join lines l using (order_id, line) where coalesce(promised_date, requested_date) <= D + 30),
delivered as (select order_id, order_line line, sum(qty) qty from delivery_line where cancelled <> 1 and actual_gi <= D group by all),
out as (select material_id, plant_id from due d left join delivered v using (order_id, line) where needed > coalesce(v.qty, 0)
  union all select c.material_id, c.plant_id from prod_component c join production_order o using (order_id)
    where final_issue <> 1 and phantom <> 1 and need_date <= D + 30 and status in ('created', 'released') and req_qty > coalesce(issued_qty, 0)
  union all select material_id, plant_id from stock_move where move_class in ('issue_sales', 'issue_prod', 'scrap') and posting_date > D - 90 and posting_date <= D
    group by all having sum(qty) < 0
  union all select material_id, plant_id from material_plant where reorder_point > 0),
fired as (select * from low l where not (a <= 0 and exists (select 1 from out o where o.material_id = l.material_id and o.plant_id = l.plant_id))),
po_due as (select s.po_id, s.line, s.qty, s.due_date, sched, greatest(coalesce(confirmed_date, s.due_date), D) expected, l.material_id, l.plant_id, f.lead_time_days
  from po_schedule s join po_line l using (po_id, line) join purchase_order p using (po_id) join fired f on f.material_id = l.material_id and f.plant_id = l.plant_id
  where l.deleted <> 1 and l.delivered_flag <> 1 and p.deleted <> 1 and p.order_date <= D),
received as (select po_id, line, sum(qty) qty from goods_receipt where posting_date <= D group by all),
po_open as (select d.*, least(d.qty, greatest(0, sum(d.qty) over (partition by d.po_id, d.line order by due_date, sched) - coalesce(r.qty, 0))) open
  from po_due d left join received r using (po_id, line)),
receipts as (select material_id, plant_id, sum(open) qty from po_open where open > 0 and expected <= D + lead_time_days::int group by all),
used as (select material_id, plant_id, -sum(qty) qty from stock_move where move_class in ('issue_sales', 'issue_prod', 'scrap') and posting_date > D - 365 and posting_date <= D group by all),
valued as (select f.*, case when reason = 'safety' then safety_stock else reorder_point end threshold, coalesce(r.qty, 0) receipts, u.qty consumed,
    ((case when reason = 'safety' then safety_stock else reorder_point end - a) * 10000)::hugeint * (unit_cost * 1000000)::hugeint e10
  from fired f left join receipts r using (material_id, plant_id) left join used u using (material_id, plant_id))
select material_id || '|' || plant_id finding_key, reason, e10 impact_e10,
  least(3, (case when a * 2 < safety_stock then 1 else 0 end) + case when e10 >= 100000 * 10000000000::hugeint then 3
    when e10 >= 10000 * 10000000000::hugeint then 2 when e10 >= 1000 * 10000000000::hugeint then 1 else 0 end) severity,
  a ev_available, threshold ev_threshold, receipts ev_open_receipts, consumed ev_consumption,
  case when consumed > 0 then HALF((a * 10000)::hugeint * 365 * 1000000, (consumed * 10000)::hugeint) end ev_coverage_days_e6
from valued where e10 is not null
