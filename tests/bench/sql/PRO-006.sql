with recursive limits as (select min(min_amount) l from approval_policy where min_amount > 0),
orders as (select p.po_id, p.vendor_id, p.created_by, p.order_date, coalesce(case when complete then v.value end, p.net_value) value from purchase_order p
    left join (select po_id, sum(net_value) value, count(*) = count(net_value) complete, count(*) = count(contract_id) called_off from po_line where deleted <> 1 group by po_id) v using (po_id)
  where p.deleted <> 1 and p.order_date <= D and p.vendor_id is not null and p.created_by is not null and not coalesce(called_off, false)),
numbered as (select *, row_number() over w rn, count(*) over (partition by vendor_id, created_by order by order_date range between unbounded preceding and interval 7 days following) upto,
    sum(value) over w total, count(*) filter (where value >= l) over w big
  from orders, limits where value > 0 window w as (partition by vendor_id, created_by order by order_date, po_id rows unbounded preceding)),
fires as (select a.vendor_id, a.created_by, a.po_id, a.rn, a.upto, e.total - a.total + a.value impact, a.upto - a.rn + 1 n
  from numbered a join numbered e on e.vendor_id = a.vendor_id and e.created_by = a.created_by and e.rn = a.upto
  where a.upto > a.rn and e.big = a.big - (a.value >= a.l)::int and e.total - a.total + a.value >= a.l),
picked as (select * from fires qualify row_number() over (partition by vendor_id, created_by order by rn) = 1
  union all
  select f.* from (select p.vendor_id, p.created_by, min(f.rn) rn from picked p join fires f on f.vendor_id = p.vendor_id and f.created_by = p.created_by and f.rn > p.upto group by all) n
    join fires f using (vendor_id, created_by, rn))
select po_id finding_key, 'split' reason, impact, greatest(1, S) severity, n ev_count from picked
