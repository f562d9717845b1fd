with dated as (select * from tax_item where direct <> 1 and tax_date <= D),
rated as (select i.*, c.rate, c.kind from dated i join company y using (company_id)
  join tax_code c on c.country = y.country and c.tax_code = i.tax_code and c.valid_from <= i.tax_date and (c.valid_to is null or c.valid_to >= i.tax_date)),
due as (select *, HALF((base_doc * 10000)::hugeint * (rate * 1000000)::hugeint, 10000000000) cents, (tax_doc * 100)::hugeint tax_cents from rated),
netted as (select company_id, doc_id, fiscal_year, tax_code from due where kind = 'reverse' group by all having sum(tax_doc) = 0),
wrong as (select *, (tax_cents - cents)::hugeint diff from due d where abs(tax_cents - cents) > greatest(1, base_lines)
  and not exists (select 1 from netted n where n.company_id = d.company_id and n.doc_id = d.doc_id and n.fiscal_year = d.fiscal_year and n.tax_code = d.tax_code))
select company_id || '|' || doc_id || '|' || fiscal_year || '|' || line finding_key, 'tax' reason, diff impact_e2,
  greatest(case when abs(diff) > 10000 then 1 else 0 end, case when abs(diff) >= 10000000 then 3 when abs(diff) >= 1000000 then 2 when abs(diff) >= 100000 then 1 else 0 end) severity,
  cents::hugeint ev_expected_e2, base_lines ev_base_lines, rate ev_rate from wrong
