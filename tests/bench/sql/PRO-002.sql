with orders as (select p.*, v.rating from purchase_order p left join vendor v using (vendor_id)
  where p.deleted <> 1 and p.vendor_id is not null and p.order_date <= D),
bad_cert as (select distinct po_id from orders o join vendor_cert c using (vendor_id) where mandatory = 1
  and ((c.valid_from is null and c.valid_to is null) or order_date < c.valid_from or order_date > c.valid_to)),
lines as (select o.po_id, o.vendor_id, o.order_date, l.line, l.material_id, l.plant_id from orders o join po_line l using (po_id) where l.deleted <> 1),
listed as (select l.*, s.vendor_id lister, s.blocked from lines l join source_list s using (material_id, plant_id)
  where s.valid_from <= l.order_date and (s.valid_to is null or s.valid_to >= l.order_date)),
bad_source as (select distinct po_id from listed group by po_id, line
  having (count(*) filter (where lister = vendor_id and blocked = 1) > 0 and count(*) filter (where lister = vendor_id and blocked <> 1) = 0)
    or (count(*) filter (where lister = vendor_id) = 0 and count(*) filter (where blocked <> 1) > 0)),
hit as (select po_id, 'cert' reason from bad_cert union all select po_id, 'rating' from orders where rating >= 4
  union all select po_id, 'source_list' from bad_source union all select po_id, 'self_approval' from orders where created_by = approved_by and approval <> 'pending'),
worth as (select po_id, sum(net_value) value, count(*) = count(net_value) complete from po_line where deleted <> 1 and po_id in (select po_id from hit) group by po_id),
valued as (select h.*, coalesce(case when complete then value end, o.net_value) impact from hit h join orders o using (po_id) left join worth using (po_id))
select po_id || '|' || reason finding_key, reason, impact, greatest(case when reason = 'self_approval' then 2 else 0 end, S) severity from valued
