with orders as (select p.*, coalesce(case when complete then l.value end, p.net_value) value from purchase_order p
    left join (select po_id, sum(net_value) value, count(*) = count(net_value) complete from po_line where deleted <> 1 group by po_id) l using (po_id)
  where p.deleted <> 1 and p.order_date <= D),
dated as (select po_id, order_date, doc_type, value, case when approved_date <= D then approved_date end approved_date, approved_by,
    case when approved_date > D and approval = 'approved' then 'pending' else approval end approval,
    case when sent_date > D then 0 else sent end sent, sent_date, company_id from orders),
asked as (select o.*, arg_max(p.approver_limit, p.min_amount) filter (where p.min_amount <= value) "limit" from dated o
  join approval_policy p on p.company_id = o.company_id and p.doc_type = o.doc_type group by all having value >= min(p.min_amount)),
receipts as (select g.*, coalesce(g.qty, 0) q from goods_receipt g where posting_date <= D),
bills as (select l.po_id, l.po_line, l.amount, i.kind, coalesce(i.posting_date, i.doc_date) as day from invoice_line l join invoice i using (invoice_id, fiscal_year)
  where coalesce(i.posting_date, i.doc_date) <= D and i.status not in ('parked', 'cancelled') and i.reversed_by is null and i.reverses is null),
first_receipt as (select po_id, min(posting_date) as day from receipts where q > 0 group by po_id),
first_bill as (select po_id, min(day) as day from bills where kind = 'invoice' group by po_id),
facts as (select a.*, r.day received, b.day billed, case when sent = 1 then sent_date end sent_on,
    r.po_id is not null or b.po_id is not null or sent = 1 committed, least(r.day, b.day, case when sent = 1 then sent_date end) first_day
  from asked a left join first_receipt r using (po_id) left join first_bill b using (po_id)),
hit as (select *, case when approval = 'rejected' and committed then 'rejected' when approval in ('pending', 'partial') and committed then 'unapproved'
    when approved_date > first_day then 'late' when approval = 'approved' and approved_by is not null and value > "limit" then 'over_limit' end reason
  from facts where reason is not null),
got as (select h.po_id, g.line, sum(g.q) q from hit h join receipts g using (po_id)
  where h.reason in ('rejected', 'unapproved') or g.posting_date < h.approved_date group by all),
got_value as (select g.po_id, g.line, case when g.q <= 0 then 0 when g.q = l.qty then (l.net_value * 1000000)::hugeint
    else HALF((l.net_value * 10000)::hugeint * (g.q * 10000)::hugeint * 100, (l.qty * 10000)::hugeint) end e6
  from got g join po_line l using (po_id, line)),
billed as (select h.po_id, b.po_line line, (sum(b.amount) * 1000000)::hugeint e6 from hit h join bills b using (po_id)
  where h.reason in ('rejected', 'unapproved') or b.day < h.approved_date group by all),
exposed as (select po_id, sum(greatest(coalesce(g.e6, 0), coalesce(b.e6, 0))) e6 from got_value g full join billed b using (po_id, line) group by po_id),
valued as (select h.*, case when coalesce(e.e6, 0) = 0 then (h.value * 1000000)::hugeint else e.e6 end e6 from hit h left join exposed e using (po_id))
select po_id finding_key, reason, e6 impact_e6,
  greatest(case when reason = 'rejected' then 2 else 1 end,
    case when e6 >= 100000000000 then 3 when e6 >= 10000000000 then 2 when e6 >= 1000000000 then 1 else 0 end) severity,
  value ev_net_value from valued
