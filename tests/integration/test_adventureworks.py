"""The rules on AdventureWorks: what cannot be evaluated, and findings against SQL written from the rule text."""
from decimal import ROUND_HALF_UP, Decimal

from analysis import SEVERITY, adventureworks, band, cents, coverage, findings, needs_data, rule_of  # noqa: F401

# The rules that do not run in full on these data, with the reasons that do not run (none: not at all).
STATUS = {
    "IMT-007": [],
    "OFU-004": [],
    "PRD-003": ["rejected"],
    "PRO-001": ["deleted", "blocked", "not_approved", "role", "one_time"],
    "PRO-002": ["cert", "source_list", "self_approval"],
    "PRO-005": ["late", "over_limit"],
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


def found(report, rule_id):
    """{key: (reason, severity, amount)} of a rule."""
    return {key: (f["reason"], f["severity"], Decimal(f["impact"]["amount"])) for (_, key), f in findings(report, rule_id).items()}


# po_value of all orders that are visible at the key date: the sum of their lines, else the header's.
VALUE = """WITH po AS (
    SELECT h.*, CAST(h.OrderDate AS DATE) ordered, coalesce((SELECT sum(CAST(d.LineTotal AS DECIMAL(38,4))) FROM PurchaseOrderDetail d
        WHERE d.PurchaseOrderID = h.PurchaseOrderID), CAST(h.SubTotal AS DECIMAL(38,4))) AS value
    FROM PurchaseOrderHeader h WHERE CAST(h.OrderDate AS DATE) <= DATE '2014-09-30')"""


@needs_data
def test_adventureworks_ofu_004_has_no_sales(adventureworks):
    (not_run,) = coverage(adventureworks[0])["OFU-004"]["not_run"]
    assert not_run == {"reason": "late", "missing": ["sales_schedule.promised_date", "sales_schedule.requested_date",
                                                     "delivery_line.qty", "delivery_line.actual_gi"]}


@needs_data
def test_adventureworks_pro_002(adventureworks):
    report, _, db = adventureworks
    want = {f"{po}|rating": ("rating", SEVERITY[band(value)], cents(value)) for po, value in db.execute(VALUE + """
        SELECT PurchaseOrderID, value FROM po JOIN Vendor v ON v.BusinessEntityID = po.VendorID WHERE CAST(v.CreditRating AS INT) >= 4""").fetchall()}
    assert want
    assert found(report, "PRO-002") == want


@needs_data
def test_adventureworks_pro_005(adventureworks):
    report, _, db = adventureworks
    # There is neither policy nor invoice nor date: every order needs approval, and what was received committed to it.
    want = {}
    for po, rejected, value, received in db.execute(VALUE + """,
            got AS (SELECT PurchaseOrderID po, sum(round_half) received6 FROM (
                SELECT PurchaseOrderID, CASE WHEN ReceivedQty::DECIMAL(18,4) = OrderQty::DECIMAL(18,4)
                    THEN (LineTotal::DECIMAL(38,4) * 1000000)::HUGEINT
                    ELSE (2 * (LineTotal::DECIMAL(38,4) * 10000)::HUGEINT * (ReceivedQty::DECIMAL(18,4) * 10000)::HUGEINT * 100
                          + (OrderQty::DECIMAL(18,4) * 10000)::HUGEINT) // (2 * (OrderQty::DECIMAL(18,4) * 10000)::HUGEINT) END AS round_half
                FROM PurchaseOrderDetail WHERE ReceivedQty::DECIMAL(18,4) > 0) GROUP BY PurchaseOrderID)
            SELECT PurchaseOrderID, Status = '3', value, received6 FROM po JOIN got ON got.po = PurchaseOrderID
            WHERE Status IN ('1', '3')""").fetchall():
        impact = Decimal(int(received)) / 1000000 or value
        floor = 2 if rejected else 1
        want[po] = ("rejected" if rejected else "unapproved", SEVERITY[max(floor, band(impact))], cents(impact))
    assert {reason for reason, _, _ in want.values()} == {"rejected", "unapproved"}
    assert found(report, "PRO-005") == want


@needs_data
def test_adventureworks_pro_006(adventureworks):
    report, _, db = adventureworks
    orders = db.execute(VALUE + " SELECT VendorID, EmployeeID, ordered, PurchaseOrderID, value FROM po ORDER BY 1, 2, 3, 4").fetchall()
    groups = {}
    for vendor, buyer, day, po, value in orders:
        groups.setdefault((vendor, buyer), []).append((day, po, value))
    want = {}
    for members in groups.values():
        i = 0
        while i < len(members):
            window = [m for m in members[i:] if (m[0] - members[i][0]).days <= 7]
            total = sum(m[2] for m in window)
            if len(window) >= 2 and all(m[2] < 10000 for m in window) and total >= 10000:
                want[window[0][1]] = ("split", SEVERITY[max(1, band(total))], cents(total))
                i += len(window)
            else:
                i += 1
    assert want
    assert found(report, "PRO-006") == want


@needs_data
def test_adventureworks_pro_009(adventureworks):
    report, _, db = adventureworks
    rows = db.execute("""
        SELECT h.VendorID, d.ProductID, CAST(h.OrderDate AS DATE), h.PurchaseOrderID, d.PurchaseOrderDetailID, CAST(d.UnitPrice AS DECIMAL(18,6)),
            CAST(d.OrderQty AS DECIMAL(18,4)), CAST(v.StandardPrice AS DECIMAL(18,6)), CAST(p.StandardCost AS DECIMAL(18,6))
        FROM PurchaseOrderDetail d JOIN PurchaseOrderHeader h USING (PurchaseOrderID)
          LEFT JOIN ProductVendor v ON v.BusinessEntityID = h.VendorID AND v.ProductID = d.ProductID
          LEFT JOIN Product p ON p.ProductID = d.ProductID
        WHERE CAST(h.OrderDate AS DATE) <= DATE '2014-09-30' AND CAST(d.UnitPrice AS DECIMAL(18,6)) > 0 ORDER BY 1, 2, 3, 4, 5""").fetchall()
    want, history = {}, {}
    for vendor, product, _, po, line, price, qty, listed, cost in rows:
        before = history.setdefault((vendor, product), [])
        last = [p for other, p in before if other != po][-5:]
        before.append((po, price))
        reference = listed
        if reference is None and len(last) >= 3:
            reference = (sum(last) / len(last)).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        if reference is None:
            reference = cost
        more = (price - reference) * qty
        if more > 100 and more * 100 > 5 * reference * qty:
            want[f"{po}|{line}"] = ("price_over", SEVERITY[band(more)], cents(more))
    assert len(want) >= 5
    assert found(report, "PRO-009") == want
    assert coverage(report)["PRO-009"]["population"] == len(rows)


@needs_data
def test_adventureworks_fin_008(adventureworks):
    report, _, db = adventureworks
    assert rule_of(report, "FIN-008")["params"]["cent"] == "0.0001"
    want = {}
    for po, base, tax, lines in db.execute("""
            SELECT PurchaseOrderID, CAST(SubTotal AS DECIMAL(18,4)), CAST(TaxAmt AS DECIMAL(18,4)),
                (SELECT count(*) FROM PurchaseOrderDetail d WHERE d.PurchaseOrderID = h.PurchaseOrderID)
            FROM PurchaseOrderHeader h WHERE CAST(OrderDate AS DATE) <= DATE '2014-09-30'""").fetchall():
        expected = (base * 8 / 100).quantize(Decimal("0.0001"), ROUND_HALF_UP)
        diff = tax - expected
        if abs(diff) > Decimal("0.0001") * max(1, lines) and diff != 0:
            want[f"AW|{po}||1"] = ("tax", SEVERITY[max(1 if abs(diff) > 100 else 0, band(abs(diff)))], cents(diff))
    assert found(report, "FIN-008") == want
    assert coverage(report)["FIN-008"]["population"] == db.execute("SELECT count(*) FROM PurchaseOrderHeader").fetchone()[0]
