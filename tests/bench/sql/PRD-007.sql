with orders as (select *, case when finish_actual > D then null else finish_actual end finish from production_order),
fired as (select *, case when finish is not null then 'late' else 'overdue' end reason, coalesce(finish, D) ended, coalesce(finish, D) - finish_plan delay
  from orders where status <> 'cancelled' and (finish > finish_plan or (finish is null and status = 'released' and finish_plan < D))),
due as (select s.order_id, l.material_id, coalesce(promised_date, requested_date) target, l.line,
    sum(s.qty) over (partition by s.order_id, s.line order by coalesce(promised_date, requested_date), sched) needed
  from sales_schedule s join sales_line l using (order_id, line) join sales_order o using (order_id) semi join fired f on f.sales_order_id = s.order_id
  where rejected <> 1 and cancelled <> 1 and order_date <= D),
waiting as (select order_id, material_id, min(target) target from due where needed > coalesce((select sum(v.qty) from delivery_line v
    where v.order_id = due.order_id and v.order_line = due.line and v.cancelled <> 1 and v.actual_gi <= due.target and v.actual_gi <= D), 0) group by all),
late_ops as (select order_id, arg_min(op, (finish_plan, op)) op from (select *, case when finish_actual > D then null else finish_actual end finish from prod_operation) o
  where finish > finish_plan or (finish is null and (done <> 1 or finish_actual > D) and finish_plan < D) group by all),
valued as (select f.*, (qty * 10000)::hugeint * (unit_cost * 1000000)::hugeint e10, coalesce(w.target < ended, false) pegged, o.op
  from fired f join material_plant using (material_id, plant_id) left join waiting w on w.order_id = f.sales_order_id and w.material_id = f.material_id
    left join late_ops o on o.order_id = f.order_id)
select order_id finding_key, reason, e10 impact_e10,
  least(3, (case when delay > 14 then 1 else 0 end) + (case when pegged then 1 else 0 end) + case when e10 >= 100000 * 10000000000::hugeint then 3
    when e10 >= 10000 * 10000000000::hugeint then 2 when e10 >= 1000 * 10000000000::hugeint then 1 else 0 end) severity,
  delay ev_days, pegged ev_delays_sale, op ev_late_operation from valued
