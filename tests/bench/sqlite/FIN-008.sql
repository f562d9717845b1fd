with rated as (select i.*, c.rate, c.kind from tax_item i join company y on y.company_id = i.company_id
  join tax_code c on c.country = y.country and c.tax_code = i.tax_code and c.valid_from <= i.tax_date and (c.valid_to is null or c.valid_to >= i.tax_date)
  where i.direct <> 1 and i.tax_date <= D),
due as (select *, HALF(base_doc * rate, 10000000000) cents, tax_doc / 100 tax_cents from rated),
netted as (select company_id, doc_id, fiscal_year, tax_code from due where kind = 'reverse' group by 1, 2, 3, 4 having sum(tax_doc) = 0),
wrong as (select *, tax_cents - cents diff from due d where abs(tax_cents - cents) > max(1, base_lines)
  and not exists (select 1 from netted n where n.company_id = d.company_id and n.doc_id = d.doc_id and n.fiscal_year = d.fiscal_year and n.tax_code = d.tax_code))
select company_id || '|' || doc_id || '|' || fiscal_year || '|' || line, 'tax', diff from wrong
