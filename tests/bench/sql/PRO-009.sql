with lines as (select l.*, p.vendor_id, p.order_date, HALF((price * 1000000)::hugeint, greatest(coalesce(price_unit, 1), 1))::hugeint paid from po_line l join purchase_order p using (po_id)
  where p.deleted <> 1 and p.order_date <= D and l.deleted <> 1 and free <> 1 and item_cat <> 'consignment' and price > 0 and material_id is not null),
listed as (select l.*, (k.price * 1000000)::hugeint agreed,
    (select arg_max((v.price * 1000000)::hugeint, (v.plant_id <> '', v.valid_from)) from vendor_price v where v.vendor_id = l.vendor_id and v.material_id = l.material_id
      and v.plant_id in ('', l.plant_id) and v.valid_from <= l.order_date and (v.valid_to is null or v.valid_to >= l.order_date)) listed,
    (c.unit_cost * 1000000)::hugeint cost,
    sum(paid) over w sum5, count(*) over w n5
  from lines l left join contract k on k.contract_id = l.contract_id and k.line = l.contract_line
    left join material_plant c on c.material_id = l.material_id and c.plant_id = l.plant_id
  window w as (partition by l.vendor_id, l.material_id order by l.order_date, l.po_id, l.line rows between 5 preceding and 1 preceding)),
fair as (select *, case when agreed is not null then agreed when listed is not null then listed when n5 >= 3 then HALF(sum5::hugeint, n5::hugeint) else cost end fair,
  case when agreed is not null then 'contract' when listed is not null then 'vendor_price' when n5 >= 3 then 'history' else 'unit_cost' end kind from listed),
more as (select *, (paid - fair) * (qty * 10000)::hugeint e10 from fair)
select po_id || '|' || line finding_key, 'price_over' reason, e10 impact_e10,
  case when e10 >= 100000 * 10000000000::hugeint then 3 when e10 >= 10000 * 10000000000::hugeint then 2 when e10 >= 1000 * 10000000000::hugeint then 1 else 0 end severity,
  kind ev_reference_kind, fair ev_reference_e6 from more where e10 > 100 * 10000000000::hugeint and (paid - fair) * 100 > 5 * fair
