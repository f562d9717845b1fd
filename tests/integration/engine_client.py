"""A service with workflows of a test's own: push a script, make its agent and an instance, run it."""
import urllib.parse

from client import Client

FINAL = ("completed", "failed", "cancelled", "timed_out")
PROJECT = "default"


class Engine(Client):
    """project: in which instances are made and executions run."""

    def __init__(self, port, project=PROJECT):
        super().__init__(port)
        self.project = project
        self.base = f"/api/v1/projects/{project}"

    def script(self, path, source):
        return self.put("/api/v1/master/scripts/" + urllib.parse.quote(path, safe=""), {"source": source})

    def unlimited(self):
        """As many requests as a load makes."""
        self.ok("PUT", f"/api/v1/master/projects/{self.project}", {"project_name": "Test", "customer_name": "Test",
                                                                  "quotas": {"requests_per_minute": 1000000}})
        return self

    def make_project(self, **quotas):
        self.ok("POST", "/api/v1/master/projects", {
            "project_id": self.project, "project_name": "Test", "customer_name": "Test", "quotas": quotas}, want=(201,))
        return self

    def make_agent(self, agent, source, tools=(), **settings):
        """Push agents/<agent>/workflow.lua, make the template and an instance; the instance's id."""
        answer = self.script(f"agents/{agent}/workflow.lua", source)
        assert answer.status == 200, answer
        self.ok("POST", "/api/v1/master/agents", {
            "agent_id": agent, "name": agent, "settings": settings, "tools": list(tools)}, want=(201,))
        return self.make_instance(agent)

    def make_tool(self, tool, method, url, **more):
        """A tool of kind http; its id. `headers` are those of the request."""
        http = {"method": method, "url": url, "headers": more.pop("headers", {})}
        self.ok("POST", "/api/v1/master/tools", {
            "tool_id": tool, "name": tool, "description": "A test's.", "kind": "http", "http": http, **more}, want=(201,))
        return tool

    def make_instance(self, agent):
        return self.ok("POST", f"{self.base}/agent-instances", {"agent_id": agent, "name": agent}, want=(201,))["instance_id"]

    def start(self, instance, **body):
        return self.ok("POST", f"{self.base}/executions", {"instance_id": instance, **body}, want=(202,))

    def execution(self, execution):
        return self.ok("GET", f"{self.base}/executions/{execution}", want=(200,))

    def result(self, execution):
        return self.ok("GET", f"{self.base}/executions/{execution}/result", want=(200,))

    def events(self, execution):
        """All numbered events; seq has no gap."""
        events, since = [], 0
        while True:
            page = self.ok("GET", f"{self.base}/executions/{execution}/events?since={since}&limit=500", want=(200,),
                           headers={"Accept": "application/json"})["data"]
            if not page:
                break
            events += page
            since = page[-1]["seq"]
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
        return events

    def ended(self, execution, seconds=60):
        return self.wait_ended(self.project, execution, seconds)

    def all_executions(self):
        return self.pages(f"{self.base}/executions", 500)

    def check_ended(self, doc):
        """What holds for every ended run: one result that says the same, and a last event that does."""
        assert doc["status"] in FINAL, doc
        result = self.result(doc["execution_id"])
        assert (result["status"], result["stop_reason"]) == (doc["status"], doc["stop_reason"])
        events = self.events(doc["execution_id"])
        assert events[-1]["type"] == f"execution.{doc['status']}" and len(events) == doc["last_seq"]
        assert sum(e["type"].split(".")[1] in FINAL for e in events if e["type"].startswith("execution.")) == 1
        return result, events
