with target as (select *, coalesce(promised_date, requested_date) target from sales_schedule s
    where qty is not null and coalesce(promised_date, requested_date) is not null
      and exists (select 1 from sales_order o where o.order_id = s.order_id and o.order_date <= D)),
needs as (select *, sum(qty) over (partition by order_id, line order by target, sched rows unbounded preceding) upto from target),
came as (select * from delivery_line where cancelled <> 1 and is_return <> 1 and actual_gi <= D),
supply as (select *, sum(qty) over (partition by order_id, order_line order by actual_gi, delivery_id, line rows unbounded preceding) upto from came),
served as (select n.order_id, n.line, n.sched, n.target, d.actual_gi,
    least(n.upto, d.upto) - greatest(n.upto - n.qty, d.upto - d.qty) part
  from needs n join supply d on d.order_id = n.order_id and d.order_line = n.line and d.upto - d.qty < n.upto and n.upto - n.qty < d.upto
  where d.qty > 0),
late as (select order_id, line, sched, any_value(target) target, max(actual_gi) actual, sum(part) filter (where actual_gi > target) q
  from served group by all having max(actual_gi) > any_value(target)),
valued as (select s.*, actual - target n_days, case when s.q = l.qty then (l.net_value * 1000000)::hugeint
    else HALF((l.net_value * 10000)::hugeint * (s.q * 10000)::hugeint * 100, (l.qty * 10000)::hugeint) end e6
  from late s join sales_line l using (order_id, line))
select order_id || '|' || line || '|' || sched finding_key, 'late' reason, e6 impact_e6,
  least(3, case when e6 >= 100000000000 then 3 when e6 >= 10000000000 then 2 when e6 >= 1000000000 then 1 else 0 end + case when n_days > 14 then 1 else 0 end) severity,
  n_days ev_days, q ev_qty_late, strftime(actual, '%Y-%m-%d') ev_actual from valued
