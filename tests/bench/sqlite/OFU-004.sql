with needs as (select *, sum(qty) over (partition by order_id, line order by target, sched rows unbounded preceding) upto from
    (select s.*, coalesce(promised_date, requested_date) target from sales_schedule s join sales_order o on o.order_id = s.order_id and o.order_date <= D
      where qty is not null and coalesce(promised_date, requested_date) is not null)),
supply as (select *, sum(qty) over (partition by order_id, order_line order by actual_gi, delivery_id, line rows unbounded preceding) upto from delivery_line
    where cancelled <> 1 and is_return <> 1 and actual_gi <= D),
served as (select n.order_id, n.line, n.sched, n.target, d.actual_gi, min(n.upto, d.upto) - max(n.upto - n.qty, d.upto - d.qty) part
  from needs n join supply d on d.order_id = n.order_id and d.order_line = n.line and d.upto - d.qty < n.upto and n.upto - n.qty < d.upto
  where d.qty > 0),
late as (select order_id, line, sched, max(target) target, max(actual_gi) actual, sum(part) filter (where actual_gi > target) q
  from served group by 1, 2, 3 having max(actual_gi) > max(target))
select s.order_id || '|' || s.line || '|' || s.sched, 'late',
  case when s.q = l.qty then l.net_value * 100 else HALF(l.net_value * s.q * 100, l.qty) end
from late s join sales_line l on l.order_id = s.order_id and l.line = s.line
