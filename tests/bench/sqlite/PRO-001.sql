with hit as materialized (select * from (select po_id, net_value, case
    when v.vendor_id is null then 'unknown'
    when v.status = 'deleted' and blocked_from <= min(order_date, D) then 'deleted'
    when v.status = 'blocked' and blocked_from <= order_date then 'blocked'
    when v.status in ('blocked', 'deleted') and blocked_from is null then 'current_status'
    when order_date < approved_from or order_date > approved_to then 'not_approved'
    when role_supplier = 0 then 'role' when one_time = 1 then 'one_time' end reason
  from purchase_order p left join vendor v on v.vendor_id = p.vendor_id
  where p.deleted <> 1 and p.vendor_id is not null and order_date <= D) where reason is not null),
lines as (select l.po_id, sum(l.net_value) value, count(*) = count(l.net_value) complete from hit h join po_line l on l.po_id = h.po_id where l.deleted <> 1 group by 1)
select h.po_id, h.reason, coalesce(case when complete then l.value end, h.net_value) impact
from hit h left join lines l on l.po_id = h.po_id
where h.reason <> 'one_time' or coalesce(case when complete then l.value end, h.net_value) > 10000000
