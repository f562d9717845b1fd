with lots as (select * replace (case when decision_date > D then null else decision end as decision), coalesce(inspected_qty, lot_qty) inspected
  from inspection_lot where created_date <= D),
fired as (select *, case when decision = 'R' then 'rejected' else 'defect_rate' end reason,
    case when decision = 'R' and not coalesce(inspected >= lot_qty and defect_qty > 0, false) then lot_qty else defect_qty end lost from lots
  where decision = 'R' or (defect_qty >= 1 and defect_qty * 100 > 2 * inspected)),
valued as (select f.*, case when i.po_id is not null then
      case when lost = i.qty then (net_value * 10000000000)::hugeint
        else HALF((net_value * 10000)::hugeint * (lost * 10000)::hugeint * 100, (i.qty * 10000)::hugeint) * 10000 end
    else (lost * 10000)::hugeint * (unit_cost * 1000000)::hugeint end e10
  from fired f left join (select l.* from po_line l join purchase_order p using (po_id) where p.order_date <= D) i on f.origin = 'receipt' and i.po_id = f.ref_doc and i.line = f.ref_line
    left join material_plant m on m.material_id = f.material_id and m.plant_id = f.plant_id)
select lot_id finding_key, reason, e10 impact_e10,
  least(3, (case when lost > 0 and lost >= lot_qty then 1 else 0 end) + case when e10 >= 100000 * 10000000000::hugeint then 3
    when e10 >= 10000 * 10000000000::hugeint then 2 when e10 >= 1000 * 10000000000::hugeint then 1 else 0 end) severity,
  lost ev_lost_qty, decision ev_decision, case when defect_qty is not null and inspected > 0 then HALF((defect_qty * 10000)::hugeint * 100 * 1000000, (inspected * 10000)::hugeint) end ev_pct_e6
from valued where e10 is not null
