"""The rules on AdventureWorks: what cannot be evaluated, and findings against SQL written from the rule text."""
from decimal import Decimal

from analysis import SEVERITY, adventureworks, band, cents, coverage, findings, needs_data, rule_of  # noqa: F401

# The rules that do not run in full on these data, with the reasons that do not run (none: not at all).
STATUS = {
    "IMT-007": [],
    "PRO-001": ["deleted", "blocked", "not_approved", "role", "one_time"],
}


@needs_data
def test_adventureworks_says_what_it_could_not_evaluate(adventureworks):
    report, text, _ = adventureworks
    status = coverage(report)
    assert report["as_of"] == "2014-09-30"
    for rule_id, entry in status.items():
        want = "ok" if rule_id not in STATUS else "partial" if STATUS[rule_id] else "not_evaluable"
        assert entry["status"] == want, rule_id
        if want == "partial":
            assert [n["reason"] for n in entry["not_run"]] == STATUS[rule_id]
    assert "IMT-007 not_evaluable" in text
    assert {t["name"] for t in report["data"]["tables"]} == {
        n + ".csv" for n in ("CurrencyRate", "Location", "Product", "ProductInventory", "ProductVendor", "PurchaseOrderDetail",
                             "PurchaseOrderHeader", "Vendor", "WorkOrder", "WorkOrderRouting")}


@needs_data
def test_adventureworks_pro_001(adventureworks):
    report, _, db = adventureworks
    want = {}
    for po, value, known in db.execute("""
            SELECT h.PurchaseOrderID, coalesce((SELECT sum(CAST(d.LineTotal AS DECIMAL(38,4))) FROM PurchaseOrderDetail d
                       WHERE d.PurchaseOrderID = h.PurchaseOrderID), CAST(h.SubTotal AS DECIMAL(38,4))), v.ActiveFlag IS NOT NULL
            FROM PurchaseOrderHeader h LEFT JOIN Vendor v ON v.BusinessEntityID = h.VendorID
            WHERE CAST(h.OrderDate AS DATE) <= DATE '2014-09-30' AND (v.ActiveFlag IS NULL OR v.ActiveFlag <> '1')""").fetchall():
        level = band(value) - (1 if known else 0)
        want[po] = ("current_status" if known else "unknown", SEVERITY[max(1, level)], cents(value))
    got = {key: (f["reason"], f["severity"], Decimal(f["impact"]["amount"])) for (_, key), f in findings(report, "PRO-001").items()}
    assert got == want
    total = db.execute("SELECT count(*) FROM PurchaseOrderHeader").fetchone()[0]
    assert coverage(report)["PRO-001"]["population"] == total


@needs_data
def test_adventureworks_inv_001(adventureworks):
    report, _, db = adventureworks
    want = {f"{product}|AW" for (product,) in db.execute("""
        SELECT p.ProductID FROM Product p JOIN ProductInventory i ON i.ProductID = p.ProductID
        WHERE (p.SellEndDate IS NULL OR CAST(p.SellEndDate AS DATE) > DATE '2014-09-30') AND CAST(p.ReorderPoint AS DECIMAL(18,4)) > 0
        GROUP BY p.ProductID HAVING sum(CAST(i.Quantity AS DECIMAL(38,4))) <= 0""").fetchall()}
    got = findings(report, "INV-001")
    assert {key for _, key in got} == want
    for finding in got.values():
        assert (finding["severity"], Decimal(finding["impact"]["amount"])) == ("medium", 0)
    population = db.execute("""SELECT count(DISTINCT p.ProductID) FROM Product p JOIN ProductInventory i ON i.ProductID = p.ProductID
        WHERE p.SellEndDate IS NULL OR CAST(p.SellEndDate AS DATE) > DATE '2014-09-30'""").fetchone()[0]
    assert coverage(report)["INV-001"]["population"] == population


@needs_data
def test_adventureworks_prd_005(adventureworks):
    report, _, db = adventureworks
    assert rule_of(report, "PRD-005")["params"]["mode"] == "history"
    loads = db.execute("""
        WITH op AS (
            SELECT LocationID center, CAST(ActualStartDate AS DATE) s,
                   coalesce(CAST(ActualEndDate AS DATE), DATE '2014-09-30') f,
                   CAST(CAST(ActualResourceHrs AS DECIMAL(18,4)) * 10000 AS HUGEINT) h
            FROM WorkOrderRouting WHERE ActualStartDate IS NOT NULL AND ActualResourceHrs IS NOT NULL
              AND CAST(ActualStartDate AS DATE) <= DATE '2014-09-30'),
        part AS (
            SELECT center, h, date_diff('day', s, f) + 1 n, CAST(w AS DATE) monday,
                   date_diff('day', greatest(s, CAST(w AS DATE)), least(f, CAST(w AS DATE) + 6)) + 1 AS inside
            FROM op, unnest(generate_series(date_trunc('week', s), date_trunc('week', f), INTERVAL 7 DAY)) x(w)),
        load AS (
            SELECT center, monday, sum((2 * h * 100 * inside + n) // (2 * n)) micro FROM part
            WHERE monday + 6 < DATE '2014-09-30' GROUP BY center, monday)
        SELECT load.center, isoyear(monday), week(monday), micro, l.Availability, l.CostRate
        FROM load JOIN Location l ON l.LocationID = load.center""").fetchall()
    want = {}
    for center, year, week, micro, capacity, rate in loads:
        load, capacity = Decimal(int(micro)) / 1000000, Decimal(capacity)
        if load > capacity:
            level = "critical" if capacity == 0 or load > 2 * capacity else "high" if load * 2 > 3 * capacity else "medium"
            want[f"{center}|{year:04d}-W{week:02d}"] = (level, cents((load - capacity) * Decimal(rate)))
    assert want
    got = {key: (f["severity"], Decimal(f["impact"]["amount"])) for (_, key), f in findings(report, "PRD-005").items()}
    assert got == want
