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
from valued where reason <> 'one_time' or impact > 1000
