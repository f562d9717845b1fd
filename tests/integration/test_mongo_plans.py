"""No query runs without an index: every filter and sort that the service really sends, taken at a proxy.

secantusd-py explains `{_id: {$gte: …}}` and most compound filters as COLLSCAN, which MongoDB does not, so its word is
not asked. Asked is what MongoDB's manual says an index can be used for: its first field is compared in the filter, or
the sort follows its keys, forwards or backwards; all branches of an $or have one.
"""
import json

import pymongo
from exercise import WHOLE, exercise
from mongo_proxy import Proxy
from mongo_server import Server

COMPARES = {"$eq", "$in", "$gt", "$gte", "$lt", "$lte", "$type"}


def conditions(query):
    """(the paths that are compared, the $or's of the filter)."""
    paths, ors = set(), []
    for key, value in query.items():
        if key == "$and":
            for part in value:
                more, others = conditions(part)
                paths |= more
                ors += others
        elif key == "$or":
            ors.append(value)
        elif not isinstance(value, dict) or set(value) & COMPARES:
            paths.add(key)
    return paths, ors


def served(query, sort, indexes):
    """An index can be used."""
    paths, ors = conditions(query)
    if any(next(iter(index)) in paths for index in indexes):
        return True
    if sort and any(follows(list(sort.items()), list(index.items())) for index in indexes):
        return True
    return any(all(served(branch, None, indexes) for branch in branches) for branches in ors)


def follows(sort, index):
    for sign in (1, -1):
        if [(p, d * sign) for p, d in sort][:len(index)] == index[:len(sort)]:
            return True
    # A last _id breaks ties only: the index without it is walked, few are sorted.
    return len(sort) > 1 and sort[-1][0] == "_id" and follows(sort[:-1], index)


def queries(command):
    """(filter, sort) of a command's parts."""
    name = next(iter(command))
    if name == "find":
        return [(command.get("filter", {}), command.get("sort"))]
    if name == "aggregate":
        first = command["pipeline"][0] if command["pipeline"] else {}
        return [] if "$changeStream" in first else [(first.get("$match", {}), None)]
    if name in ("count", "distinct", "findAndModify"):
        return [(command.get("query", {}), command.get("sort"))]
    return [(part["q"], part.get("sort")) for part in command.get({"update": "updates", "delete": "deletes"}.get(name), [])]


def test_every_query_has_its_index(make_service):
    with Server() as server, Proxy("127.0.0.1", server.port) as proxy:
        service = make_service(MONGODB_URL=proxy.url).start()
        exercise(service)
        own = service.databases()
        commands = [c for c in proxy.commands if c.get("$db") in own]
        bad, shapes = set(), set()
        with pymongo.MongoClient(server.url) as client:
            for command in commands:
                coll = command[next(iter(command))]
                for query, sort in queries(command):
                    if not query and not sort:
                        continue  # all of it is asked for
                    shape = f"{next(iter(command))} {coll} {json.dumps(kinds(query))} {json.dumps(sort)}"
                    if shape in shapes or coll in WHOLE:
                        continue
                    shapes.add(shape)
                    indexes = [dict(i["key"]) for i in client[command["$db"]][coll].list_indexes()]
                    if not served(query, sort, indexes or [{"_id": 1}]):
                        bad.add(shape)
        service.stop()
    assert len(shapes) > 50
    assert not bad, "\n".join(sorted(bad))


def kinds(value):
    if isinstance(value, dict):
        return {k: kinds(v) for k, v in value.items()}
    return [kinds(v) for v in value[:2]] if isinstance(value, list) else type(value).__name__
