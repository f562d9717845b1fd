with documents as (
  select *, ltrim(regexp_replace(upper(coalesce(reference, '')), '[^A-Z0-9]', '', 'g'), '0') ref, coalesce(entry_date, doc_date) entered
  from invoice i where posting_date <= D and status in ('posted', 'blocked', 'paid') and reversed_by is null and reverses is null
    and not exists (select 1 from invoice r where r.reverses = i.invoice_id and r.company_id = i.company_id and r.fiscal_year = i.fiscal_year)),
several as (
  select company_id, vendor_id, currency, ref, doc_date, gross from documents where kind = 'invoice' and gross > 0
  group by all having count(*) >= 2),
members as (select d.*, row_number() over w pos from documents d join several s using (company_id, vendor_id, currency, ref, doc_date, gross)
  where d.kind = 'invoice' window w as (partition by d.company_id, d.vendor_id, d.currency, d.ref, d.doc_date, d.gross order by entered, invoice_id, fiscal_year)),
memos as (select d.company_id, d.vendor_id, d.currency, d.ref, s.doc_date, -d.gross gross, min(d.entered) entered, count(*) n
  from documents d join several s on d.company_id = s.company_id and d.vendor_id = s.vendor_id and d.currency = s.currency and d.ref = s.ref and -d.gross = s.gross
    and (d.ref <> '' or d.doc_date = s.doc_date)
  where d.kind = 'credit_memo' and d.gross < 0 group by all),
kept as (select m.* from members m left join memos k using (company_id, vendor_id, currency, ref, doc_date, gross)
  where k.n is null or m.pos <> (select coalesce(max(x.pos), 1) from members x where x.company_id = m.company_id and x.vendor_id = m.vendor_id
    and x.currency = m.currency and x.ref = m.ref and x.doc_date = m.doc_date and x.gross = m.gross and x.entered <= k.entered)),
groups as (select arg_min(invoice_id || '|' || fiscal_year, pos) finding_key, case when ref = '' then 'no_reference' else 'exact' end reason,
    sum(gross) - any_value(gross) impact, count(*) filter (where status = 'paid') paid, count(*) n
  from kept group by company_id, vendor_id, currency, ref, doc_date, gross
  having count(*) >= 2 and not (count(due_date) = count(*) and count(distinct due_date) = count(*) and min(entered) = max(entered)))
select finding_key, reason, impact, case when reason = 'no_reference' then greatest(0, S - 1) when paid >= 2 then greatest(2, S) else S end severity,
  n ev_count, paid ev_paid
from groups
