with negative as (select * from stock where qty < -0.0005),
alone as (select material_id, plant_id, sloc, special from stock semi join negative using (material_id, plant_id) group by all having count(*) = 1),
by_day as (select m.material_id, m.plant_id, m.sloc, posting_date, sum(qty) moved from stock_move m semi join (select * from negative n semi join alone using (material_id, plant_id, sloc, special) where special = 'own') n
    using (material_id, plant_id, sloc) where posting_date <= D group by all),
closing as (select d.*, n.qty - coalesce(sum(moved) over (partition by d.material_id, d.plant_id, d.sloc order by posting_date desc rows between unbounded preceding and 1 preceding), 0) balance
  from by_day d join negative n on n.material_id = d.material_id and n.plant_id = d.plant_id and n.sloc = d.sloc and n.special = 'own'),
since as (select material_id, plant_id, sloc, min(posting_date) filter (where posting_date > coalesce(fine, date '1900-01-01')) since from (
    select *, max(posting_date) filter (where balance >= -0.0005) over (partition by material_id, plant_id, sloc) fine from closing) group by all),
valued as (select n.*, (-n.qty * 10000)::hugeint * (unit_cost * 1000000)::hugeint e10, neg_allowed, s.since
  from negative n join material_plant m using (material_id, plant_id) left join since s on s.material_id = n.material_id and s.plant_id = n.plant_id and s.sloc = n.sloc and n.special = 'own')
select material_id || '|' || plant_id || '|' || sloc || '||' || special || '|' || stock_type finding_key, 'negative' reason, e10 impact_e10,
  greatest(case when neg_allowed = 1 then 0 else 2 end, least(3, (case when D - since > 7 then 1 else 0 end) + case when e10 >= 100000 * 10000000000::hugeint then 3
    when e10 >= 10000 * 10000000000::hugeint then 2 when e10 >= 1000 * 10000000000::hugeint then 1 else 0 end)) severity,
  qty ev_qty, strftime(since, '%Y-%m-%d') ev_since from valued
