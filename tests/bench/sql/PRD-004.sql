with done as (select *, yield_qty + scrap_qty total, (scrap_qty * 10000)::hugeint s4, (plan_scrap_pct * 1000000)::hugeint p6 from production_order
  where finish_actual <= D and yield_qty is not null and scrap_qty is not null),
fired as (select d.*, (total * 10000)::hugeint t4, (unit_cost * 1000000)::hugeint c6 from done d join material_plant using (material_id, plant_id)
  where scrap_qty * 100 > (plan_scrap_pct + 2) * total)
select order_id finding_key, 'scrap' reason, (s4 * 100000000 - p6 * t4) * c6 impact_e18,
  case when abs((s4 * 100000000 - p6 * t4) * c6) >= 100000 * 1000000000000000000::hugeint then 3 when abs((s4 * 100000000 - p6 * t4) * c6) >= 10000 * 1000000000000000000::hugeint then 2
    when abs((s4 * 100000000 - p6 * t4) * c6) >= 1000 * 1000000000000000000::hugeint then 1 else 0 end severity,
  yield_qty ev_yield, scrap_qty ev_scrap, HALF(s4 * 100 * 1000000, t4) ev_pct_e6 from fired
