with ops as (select *, coalesce(finish_actual, D) finish from prod_operation where start_actual <= D and actual_hours is not null),
days as (select work_center_id, start_actual, case when finish < start_actual then start_actual else finish end finish, (actual_hours * 10000)::bigint h4 from ops),
weeks as (select work_center_id, h4, finish - start_actual + 1 n, w::date as week,
    least(finish, w::date + 6) - greatest(start_actual, w::date) + 1 d
  from days, unnest(generate_series(date_trunc('week', start_actual)::date, finish, interval 7 day)) t(w)),
load as (select work_center_id, week, sum(HALF(h4 * 100 * d, n))::hugeint L6, count(*) n from weeks where week + 6 < D group by all),
working as (select calendar_id, date_trunc('week', "date")::date as week, count(*) filter (where working = 1) as n from calendar_day group by all),
capacity as (select l.*, cost_rate, case when c.n is null then (hours_per_week * 1000000)::hugeint else (hours_per_week * 1000000)::hugeint * c.n // 5 end K6
  from load l join work_center w using (work_center_id) left join working c on c.calendar_id = w.calendar_id and c.week = l.week where hours_per_week is not null)
select work_center_id || '|' || strftime(week, '%G-W%V') finding_key, 'overload' reason, (L6 - K6) * (cost_rate * 1000000)::hugeint impact_e12,
  case when K6 = 0 or L6 > 2 * K6 then 3 when L6 * 2 > K6 * 3 then 2 else 1 end severity,
  L6 ev_load_e6, K6 ev_capacity_e6, n ev_operations
from capacity where L6 > K6
