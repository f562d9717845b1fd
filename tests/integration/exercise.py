"""Everything that the service does with its store: each route with a good request, an analysis, runs, keys, lists, and a year
later what its projects' policies do."""
import datetime

from test_access import World, send

from conftest import eventually

# Collections that are read as a whole, and why that is right.
WHOLE = {
    "kt_m_migrations": "a row a migration", "kt_p_migrations": "a row a migration",
    "kt_m_projects": "those that are half made, once at the start; its lists go by _id",
    "kt_p_datasets": "as many as the quota `datasets` allows; an index more in each project is a file more on the server",
    "kt_p_uploads": "those that are under way",
}


def exercise(service):
    world = World(service)
    document = service.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            body = about.get("requestBody", {}).get("content", {})
            route = {"path": path, "method": method.upper(), "json": body.get("application/json", {}).get("example"),
                     "upload": "text/csv" in body}
            if method != "delete":
                send(world, "root", route, world.ids["mine"])
            if method == "get":  # each filter and sort of a list
                for parameter in about.get("parameters", []):
                    if parameter.get("in") != "query":
                        continue
                    schema = parameter["schema"]
                    values = schema.get("enum") or [{"integer": 5, "boolean": "true"}.get(schema.get("type"), "x")]
                    if schema.get("format") == "date-time":
                        values = ["2026-01-01T00:00:00Z"]
                    for value in values:
                        send(world, "root", {**route, "path": f"{path}?{parameter['name']}={value}"}, world.ids["mine"])
    a_year_later(service, world)
    return world


def a_year_later(service, world):
    """It wakes up where a backup is due and everything is older than is kept."""
    kinds = ("events", "datasets", "findings", "results", "token_usage", "audit")
    for project in ("mine", "other"):
        answer = world.ask("root", "PUT", f"/api/v1/master/projects/{project}", {
            "project_name": "P", "customer_name": "C", "retention_days": dict.fromkeys(kinds, 30), "backup": {"at": "00:00"}})
        assert answer.status == 200, answer.body
    service.stop()
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(400)
    service.env["KONTOR_TEST_CLOCK"] = later.strftime("%Y-%m-%dT%H:%M:%SZ")
    service.start()
    for what, word in (("backup", "bak_"), ("retention", "deleted")):
        done = eventually(lambda w=what: [e for e in service.events(f"daily.{w}") if e["project_id"] == "mine"], what)
        assert word in done[0]["msg"], done
