#!/usr/bin/env python3
"""An ERP analysis over Kontor's public API, from an empty service to the report.

Seeds the ERP defaults, makes a project and an agent instance, uploads a folder of CSV files,
executes the analysis, follows it over the WebSocket and prints what it found. Needs only the
standard library and `websockets`.
"""
import argparse
import asyncio
import decimal
import json
import pathlib
import sys
import urllib.error
import urllib.request

import websockets

PROJECT = "acme-corp-2024"
TEMPLATE = "erp-exception-management"
SEVERITIES = ["critical", "high", "medium", "low"]


class Api:
    def __init__(self, base):
        self.base = base

    def call(self, method, path, body=None, data=None, content_type="application/json", accept=(200, 201, 202, 204)):
        """The answer's JSON and status; a problem that is not accepted ends the program."""
        payload = data if data is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, payload, {"Content-Type": content_type}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
        document = json.loads(text) if text else None
        if status not in accept:
            sys.exit(f"{method} {path}: {status} {json.dumps(document, indent=2)}")
        return document, status


def step(text):
    print(f"* {text}", flush=True)


def prepare(api):
    made, _ = api.call("POST", "/api/v1/master/setup/erp-defaults", {})
    step(f"ERP defaults: {len(made['created'])} created, {len(made['updated'])} updated, {made['unchanged']} unchanged")
    _, status = api.call("POST", "/api/v1/master/projects", {
        "project_id": PROJECT, "project_name": "ACME ERP control", "customer_name": "ACME Corporation",
    }, accept=(201, 409))
    step(f"project {PROJECT}" + (" (it was there)" if status == 409 else ""))
    root = f"/api/v1/projects/{PROJECT}"
    instances, _ = api.call("GET", f"{root}/agent-instances")
    for instance in instances["data"]:
        if instance["agent_id"] == TEMPLATE:
            break
    else:
        instance, _ = api.call("POST", f"{root}/agent-instances", {"agent_id": TEMPLATE, "name": "Exceptions of ACME"})
    step(f"agent instance {instance['instance_id']} of template {TEMPLATE}")
    return root, instance


def upload(api, root, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    dataset, _ = api.call("POST", f"{root}/datasets", {
        "name": "demo company", "mapping": "identity", "as_of": manifest["as_of"],
    })
    rows = size = files = 0
    for path in sorted(folder.glob("*.csv")):
        if path.name == "labels.csv":
            continue
        table, _ = api.call("PUT", f"{root}/datasets/{dataset['dataset_id']}/tables/{path.name}",
                            data=path.read_bytes(), content_type="text/csv")
        rows, size, files = rows + table["rows"], size + table["bytes"], files + 1
    dataset, _ = api.call("POST", f"{root}/datasets/{dataset['dataset_id']}/seal", {})
    step(f"dataset {dataset['dataset_id']}: {files} tables, {rows:,} rows, {size:,} bytes, {dataset['status']}")
    return dataset


def show_progress(done, total, what):
    if sys.stdout.isatty():
        bar = "#" * (30 * done // max(total, 1))
        print(f"\r  [{bar:<30}] {done}/{total} {what:<60.60}", end="\n" if done == total else "", flush=True)
    else:
        print(f"  {done}/{total} {what}", flush=True)


async def follow(base, execution_id):
    """Print the run's events until its last one; the WebSocket is taken up again where it broke."""
    url = base.replace("http://", "ws://") + f"/ws/execution/{execution_id}"
    since, done, total = 0, 0, 0
    while True:
        try:
            async with websockets.connect(f"{url}?since={since}", max_size=None) as socket:
                async for frame in socket:
                    event = json.loads(frame)
                    since = event.get("seq", since)
                    data, kind = event.get("data", {}), event["type"]
                    if kind == "dataset.loaded":
                        print(f"  loaded {len(data['tables'])} tables, "
                              f"{sum(t['rows'] for t in data['tables']):,} rows", flush=True)
                    elif kind == "progress":
                        total = data.get("total") or total
                    elif kind == "rule.completed":
                        done += 1
                        total = max(total, done)
                        show_progress(done, total, f"{data['rule_id']} {data['status']}: {data['findings']} findings")
                    elif kind in ("execution.completed", "execution.failed", "execution.cancelled", "execution.timed_out"):
                        return kind, data
        except (OSError, websockets.ConnectionClosedError) as error:
            print(f"  connection lost after event {since} ({error}), connecting again", flush=True)
            await asyncio.sleep(0.5)


def money(amount):
    return f"{decimal.Decimal(amount):,}"  # with the decimals of its currency


def plain(text):
    """Text out of the data: it must not move the cursor."""
    return "".join(c if not (ord(c) < 32 or 127 <= ord(c) < 160) else f"\\x{ord(c):02X}" for c in text)


def print_report(report):
    currency = report["report_currency"]
    print(f"\nExceptions at {report['as_of']}, amounts in {currency}\n")
    print(f"{'category':<20}{'found':>6}" + "".join(f"{s:>10}" for s in SEVERITIES) + "   impact by kind")
    for category, summary in report["summary"]["by_category"].items():
        impact = "  ".join(f"{kind} {money(amount)}" for kind, amount in summary["impact_by_kind"].items() if decimal.Decimal(amount))
        print(f"{category:<20}{summary['count']:>6}"
              + "".join(f"{summary['by_severity'].get(s, 0):>10}" for s in SEVERITIES) + f"   {impact}")
    total = report["summary"]["total"]
    print(f"{'total':<20}{total['count']:>6}" + "".join(f"{total['by_severity'].get(s, 0):>10}" for s in SEVERITIES))

    findings = {(rule["rule_id"], finding["finding_key"]): finding
                for category in report["categories"] for rule in category["rules"] for finding in rule["findings"]}
    print("\nThe ten worst:\n")
    for n, top in enumerate(report["summary"]["top"], 1):
        finding = findings[top["rule_id"], top["finding_key"]]
        impact = finding["impact"]
        print(f"{n:>3}. {finding['severity']:<9}{money(impact['amount']):>14} {impact['currency']} {impact['kind']:<13}"
              f"{finding['rule_id']} {plain(finding['finding_key'])}")
        print(f"     {plain(finding['explanation'])}")

    left_out = [c for c in report["data"]["coverage"] if c["status"] != "ok"]
    if left_out:
        print("\nNot or only partly evaluated:")
        for rule in left_out:
            missing = "; ".join(f"{n['reason']} needs {', '.join(n['missing'])}" for n in rule["not_run"])
            print(f"  {rule['rule_id']} {rule['status']}" + (f": {missing}" if missing else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="http://127.0.0.1:8000")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with CSV files and manifest.json")
    parser.add_argument("--reports", type=pathlib.Path, help="ERP_REPORTS_DIRECTORY of the service")
    parser.add_argument("--store", help="KONTOR_DATA_DIR of the service, for the closing hint")
    options = parser.parse_args()

    api = Api(options.base)
    root, instance = prepare(api)
    dataset = upload(api, root, options.data)
    execution, _ = api.call("POST", f"{root}/executions", {
        "instance_id": instance["instance_id"],
        "input_data": {"prompt": "Find the exceptions that need a decision.", "dataset_id": dataset["dataset_id"]},
    })
    execution_id = execution["execution_id"]
    step(f"execution {execution_id}")
    kind, data = asyncio.run(follow(options.base, execution_id))
    result, _ = api.call("GET", f"{root}/executions/{execution_id}/result")
    if kind != "execution.completed":
        sys.exit(f"the run ended as {data['status']} ({data['stop_reason']}): {json.dumps(result['error'])}")
    report, _ = api.call("GET", f"{root}/executions/{execution_id}/report")
    print_report(report)

    where = options.reports and options.reports / PROJECT / f"{execution_id}.json"
    print(f"\nThe whole report: {where if where and where.exists() else options.base + root + '/executions/' + execution_id + '/report'}")
    if options.store:
        print(f"""
How to go on (the demo's service stops now, its data stays in {options.store}):
  KONTOR_DATA_DIR={options.store} make run          serves it on http://127.0.0.1:8000
  curl -s http://127.0.0.1:8000{root}/executions/{execution_id}/findings?limit=3
  build/kontor analyze --data {options.data} --mapping identity      the same analysis without a service
  README.md has the tour.""")


if __name__ == "__main__":
    main()
