with tested as (select w::date as week from unnest(generate_series(date_trunc('week', D)::date - 28, date_trunc('week', D)::date - 7, interval 7 day)) t(w)),
ops as (select *, coalesce(finish_actual, D) finish from prod_operation where start_actual <= D and actual_hours is not null),
parts as (select o.*, week, case when finish < start_actual then start_actual else finish end last, (actual_hours * 10000)::bigint h4
  from ops o join tested on start_actual <= week + 6 and greatest(finish, start_actual) >= week),
load as (select work_center_id, week, sum(HALF(h4 * 100 * (least(last, week + 6) - greatest(start_actual, week) + 1), last - start_actual + 1))::hugeint L6 from parts group by all),
working as (select calendar_id, date_trunc('week', "date")::date as week, count(*) filter (where working = 1) as n from calendar_day group by all),
weeks as (select c.work_center_id, c.plant_id, coalesce(L6, 0) L6, case when n is null then (hours_per_week * 1000000)::hugeint else (hours_per_week * 1000000)::hugeint * n // 5 end K6
  from work_center c cross join tested t left join load l on l.work_center_id = c.work_center_id and l.week = t.week
    left join working k on k.calendar_id = c.calendar_id and k.week = t.week where hours_per_week is not null),
centers as (select work_center_id, plant_id, count(*) filter (where L6 * 100 >= 60 * K6) full_weeks, HALF(sum(HALF(L6 * 100 * 1000000, K6)), count(*)) mean6
  from weeks where K6 > 0 group by all),
ranked as (select *, max(mean6) over (partition by plant_id) best from centers),
there as (select distinct work_center_id, order_id, op, start_plan, finish_plan, start_actual, finish_actual, done from parts),
judged as (select *, coalesce(finish_actual > D, false) or (finish_actual is null and done <> 1) open,
    coalesce(finish_actual > finish_plan, false) or (finish_actual is null and done <> 1 and finish_plan < D) late from there),
counted as (select work_center_id, count(*) n, count(*) filter (where late) behind, HALF(sum(start_actual - start_plan)::hugeint * 1000000, count(start_actual - start_plan)) waited from judged group by all),
value as (select work_center_id, sum((qty * 10000)::hugeint * (unit_cost * 1000000)::hugeint)::hugeint e10, count(*) orders
  from (select distinct work_center_id, order_id from judged where open or late) j join production_order using (order_id) join material_plant m using (material_id, plant_id) group by all)
select work_center_id finding_key, 'bottleneck' reason, coalesce(e10, 0) impact_e10,
  least(3, 1 + (case when mean6 = best then 1 else 0 end) + case when behind * 100 > 20 * n then 1 else 0 end) severity,
  mean6 ev_mean_pct_e6, full_weeks ev_weeks_full, n ev_operations, behind ev_late_operations, waited ev_mean_queue_days_e6, coalesce(orders, 0) ev_orders
from ranked left join counted using (work_center_id) left join value using (work_center_id) where full_weeks >= 3
