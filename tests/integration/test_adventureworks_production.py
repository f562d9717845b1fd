"""The rules of stock and production on AdventureWorks against SQL written from the rule text."""
from decimal import ROUND_HALF_UP, Decimal

from analysis import SEVERITY, adventureworks, band, cents, coverage, findings, needs_data, rule_of  # noqa: F401

D = "DATE '2014-09-30'"
ORDERS = f"""WITH orders AS (
    SELECT WorkOrderID id, ProductID product, CAST(OrderQty AS DECIMAL(18,4)) qty, CAST(StockedQty AS DECIMAL(18,4)) yield,
        CAST(ScrappedQty AS DECIMAL(18,4)) scrap, CAST(DueDate AS DATE) due,
        CASE WHEN CAST(EndDate AS DATE) <= {D} THEN CAST(EndDate AS DATE) END ended, CAST(StandardCost AS DECIMAL(18,6)) cost
    FROM WorkOrder JOIN Product USING (ProductID))"""


def found(report, rule_id):
    """{key: (reason, severity, amount)} of a rule."""
    return {key: (f["reason"], f["severity"], Decimal(f["impact"]["amount"])) for (_, key), f in findings(report, rule_id).items()}


def raised(amount, step=0):
    return SEVERITY[min(3, band(abs(amount)) + step)]


@needs_data
def test_adventureworks_inv_002(adventureworks):
    report, _, db = adventureworks
    want = {}
    stocked = db.execute(f"""
        SELECT p.ProductID, sum(CAST(i.Quantity AS DECIMAL(38,4))), CAST(p.ReorderPoint AS DECIMAL(18,4)), CAST(p.SafetyStockLevel AS DECIMAL(18,4)),
            CAST(p.StandardCost AS DECIMAL(18,6))
        FROM Product p JOIN ProductInventory i ON i.ProductID = p.ProductID WHERE p.SellEndDate IS NULL OR CAST(p.SellEndDate AS DATE) > {D}
        GROUP BY ALL""").fetchall()
    for product, available, reorder, safety, cost in stocked:
        reasons = [(limit, order, reason) for order, reason, limit in ((0, "reorder", reorder), (1, "safety", safety)) if available < limit]
        if not reasons or (available <= 0 and reorder > 0):  # nothing left: INV-001
            continue
        limit, _, reason = min(reasons)
        impact = (limit - available) * cost
        want[f"{product}|AW"] = (reason, raised(impact, 1 if available * 2 < safety else 0), cents(impact))
    assert {reason for reason, _, _ in want.values()} == {"reorder", "safety"}
    assert found(report, "INV-002") == want
    assert coverage(report)["INV-002"]["population"] == len(stocked)


@needs_data
def test_adventureworks_inv_007_has_no_negative_stock(adventureworks):
    report, _, db = adventureworks
    rows, negative = db.execute("SELECT count(*), count(*) FILTER (CAST(Quantity AS INT) < 0) FROM ProductInventory").fetchone()
    assert (coverage(report)["INV-007"]["population"], len(found(report, "INV-007"))) == (rows, negative)


@needs_data
def test_adventureworks_prd_003(adventureworks):
    report, _, db = adventureworks
    (not_run,) = coverage(report)["PRD-003"]["not_run"]
    assert not_run == {"reason": "rejected", "missing": ["inspection_lot.decision"]}
    want = {}
    for lot, lot_qty, defects, qty, net in db.execute("""
            SELECT PurchaseOrderDetailID, CAST(ReceivedQty AS DECIMAL(18,4)) lot, CAST(RejectedQty AS DECIMAL(18,4)) bad, CAST(OrderQty AS DECIMAL(18,4)),
                CAST(LineTotal AS DECIMAL(18,4))
            FROM PurchaseOrderDetail WHERE CAST(ReceivedQty AS DECIMAL(18,4)) > 0 AND bad >= 1 AND bad * 100 > 2 * lot""").fetchall():
        value = net if defects == qty else (net * defects / qty).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        want[lot] = ("defect_rate", raised(value, 1 if defects >= lot_qty else 0), cents(value))
    assert len(want) >= 100
    assert found(report, "PRD-003") == want


@needs_data
def test_adventureworks_prd_004(adventureworks):
    report, _, db = adventureworks
    want = {}
    rows = db.execute(ORDERS + " SELECT id, yield, scrap, cost FROM orders WHERE ended IS NOT NULL").fetchall()
    for order, good, scrap, cost in rows:
        if scrap * 100 > 2 * (good + scrap):
            want[order] = ("scrap", raised(scrap * cost), cents(scrap * cost))
    assert len(want) >= 100
    assert found(report, "PRD-004") == want
    assert coverage(report)["PRD-004"]["population"] == len(rows)


@needs_data
def test_adventureworks_prd_006(adventureworks):
    report, _, db = adventureworks
    params = rule_of(report, "PRD-006")["params"]
    assert (params["mode"], params["util_pct"], params["k"], params["n"]) == ("history", "90", "3", "4")
    # The four weeks before that of 2014-09-30, a Tuesday: 1 September to 28 September. The data end earlier.
    load = db.execute("""SELECT count(*) FROM WorkOrderRouting WHERE CAST(ActualStartDate AS DATE) <= DATE '2014-09-28'
        AND coalesce(CAST(ActualEndDate AS DATE), DATE '2014-09-30') >= DATE '2014-09-01'""").fetchone()[0]
    assert load == 0
    assert found(report, "PRD-006") == {}
    centers = db.execute("SELECT count(*) FROM Location WHERE CAST(Availability AS DECIMAL(18,4)) > 0").fetchone()[0]
    assert coverage(report)["PRD-006"]["population"] == centers


@needs_data
def test_adventureworks_prd_007(adventureworks):
    report, _, db = adventureworks
    want = {}
    for order, due, ended, qty, cost in db.execute(ORDERS + f"""
            SELECT id, due, ended, qty, cost FROM orders WHERE ended > due OR (ended IS NULL AND due < {D})""").fetchall():
        late = (ended - due).days if ended else None
        days = late if late is not None else (db.execute(f"SELECT {D}").fetchone()[0] - due).days
        want[order] = ("late" if ended else "overdue", raised(qty * cost, 1 if days > 14 else 0), cents(qty * cost))
    assert len(want) >= 1000
    assert found(report, "PRD-007") == want
    assert coverage(report)["PRD-007"]["population"] == db.execute("SELECT count(*) FROM WorkOrder").fetchone()[0]
