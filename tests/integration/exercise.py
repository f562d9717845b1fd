"""Everything that the service does with its store: each route with a good request, an analysis, runs, keys, lists."""
from test_access import World, send

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
    return world
