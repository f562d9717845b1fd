-- Executions as the API shows them. What an execution does is the engine's (lua/engine).

local agent = require "domain.agent"
local schema = require "http.schema"
local T = require "http.types"

local M = {}

local link = T.str{max = 300}
local function at(suffix) return {"/api/v1/projects/", "project_id", "/executions/", "_id", suffix} end

M.error = T.object("RunError", {
  {"code", T.str()}, {"message", T.str{max = 4000}}, {"retryable", T.bool},
  {"where", T.object("ScriptPlace", {{"script", T.str()}, {"line", T.int(), nullable = true}}), nullable = true},
  {"details", T.any, nullable = true},
})

M.statuses = {"queued", "delayed", "running", "waiting", "paused", "completed", "failed", "cancelled", "timed_out"}
M.ended = {completed = true, failed = true, cancelled = true, timed_out = true}
M.stop_reasons = {"done", "cancelled", "deadline", "error", "budget_exceeded", "max_steps", "loop_detected",
  "worker_lost", "max_attempts", "nondeterministic", "quarantined"}

local input_known = {
  {"prompt", T.text(262144), nullable = true},
  {"dataset_id", T.made_id("ds"), nullable = true},
}
for _, f in ipairs(agent.rule_settings) do input_known[#input_known + 1] = f end

-- What the client gives; also the first part of the answer.
local given = {
  {"instance_id", T.instance_id, required = true},
  {"input_data", T.map(input_known, "InputData"), default = {}},
  {"variables", T.map(), default = {}},
  {"async_execution", T.bool, default = true},
  {"run_at", T.ts, nullable = true},
  {"priority", T.int(0, 9), default = 5},
  {"budget_usd", T.usd, nullable = true},
  {"timeout_seconds", T.num(1, 86400), nullable = true},
  {"metadata", T.map(), default = {}},
}
M.create = T.object("ExecutionCreate", given)
M.cancel = T.object("ExecutionCancel", {{"reason", T.str{max = 2000}, nullable = true}})

M.result = T.object("Result", {
  {"execution_id", T.execution_id}, {"project_id", T.project_id}, {"instance_id", T.instance_id}, {"agent_id", T.slug},
  {"status", T.enum{"completed", "failed", "cancelled", "timed_out"}},
  {"stop_reason", T.enum(M.stop_reasons)}, {"partial", T.bool}, {"output", T.any, nullable = true},
  {"report", T.object("ReportRef", {
    {"sha256", T.hash}, {"bytes", T.int(0)}, {"media_type", T.str()}, {"path", T.str{max = 1000}, nullable = true},
  }), nullable = true},
  {"artifacts", T.list(T.object("Artifact", {
    {"name", T.str()}, {"sha256", T.hash}, {"bytes", T.int(0)}, {"media_type", T.str()},
  }))},
  {"metrics", T.object("Metrics", {
    {"duration_ms", T.int(0)}, {"queued_ms", T.int(0)}, {"steps", T.int(0)}, {"model_calls", T.int(0)},
    {"tool_calls", T.int(0)}, {"input_tokens", T.int(0)}, {"output_tokens", T.int(0)},
    {"cost_usd", T.usd, nullable = true}, {"rows", T.int(0)}, {"findings", T.int(0)},
  })},
  {"warnings", T.list(T.object("Warning", {{"code", T.str()}, {"message", T.str{max = 4000}}}))},
  {"error", M.error, nullable = true}, {"created_at", T.ts},
})

local shown = {{"execution_id", T.execution_id, from_id = true}, {"project_id", T.project_id}}
for _, f in ipairs(given) do shown[#shown + 1] = {f[1], f[2], nullable = f.nullable} end
for _, f in ipairs{
  {"agent_id", T.slug}, {"status", T.enum(M.statuses)}, {"stop_reason", T.enum(M.stop_reasons), nullable = true},
  {"attempt", T.int(0)}, {"max_attempts", T.int(1)}, {"created_by", T.str()}, {"created_at", T.ts},
  {"started_at", T.ts, nullable = true}, {"finished_at", T.ts, nullable = true},
  {"duration_ms", T.int(0), nullable = true}, {"last_seq", T.int(0)}, {"cancel_requested", T.bool},
  {"error", M.error, nullable = true},
  {"usage", T.object("Usage", {
    {"model_calls", T.int(0)}, {"tool_calls", T.int(0)}, {"input_tokens", T.int(0)}, {"output_tokens", T.int(0)},
    {"cost_usd", T.usd, nullable = true},
  }), nullable = true},
  {"snapshot", T.object("Snapshot", {
    {"bundle", T.hash}, {"agent_version", T.int(1)}, {"instance_version", T.int(1)},
    {"prompt_version", T.int(1), nullable = true}, {"model_config_version", T.int(1), nullable = true},
    {"price_version", T.str(), nullable = true},
    {"tools", T.map(), nullable = true, doc = "tool_id to version"}, {"door", T.int(1)},
  })},
  {"parent", T.object("Parent", {
    {"execution_id", T.execution_id}, {"kind", T.enum{"retry", "fork", "replay"}}, {"seq", T.int(0), nullable = true},
  }), nullable = true},
  {"links", T.object("Links", {
    {"self", link, text = at()}, {"result", link, text = at("/result")}, {"events", link, text = at("/events")},
    {"ws", link, text = {"/ws/execution/", "_id"}},
  }), derived = true},
  {"result", M.result, nullable = true},
} do shown[#shown + 1] = f end
M.execution = T.object("Execution", shown)

M.event = T.object("Event", {
  {"v", T.int(1)}, {"seq", T.int(1)}, {"type", T.str()}, {"execution_id", T.execution_id}, {"at", T.ts}, {"data", T.map()},
})

M.finding = T.object("RunFinding", {
  {"finding_id", T.str()}, {"rule_id", T.str()}, {"rule_version", T.int(1), nullable = true}, {"finding_key", T.str{max = 1000}}, {"category", T.str()},
  {"reason", T.str()}, {"severity", T.enum{"critical", "high", "medium", "low"}}, {"impact", T.any},
  {"overlap_key", T.str{max = 1000}, nullable = true}, {"explanation", T.any}, {"evidence", T.any},
  {"input_hash", T.str(), nullable = true},
})

---A stored execution as answers show it.
---@param stored table
---@return table
function M.public(stored) return schema.to_plain(M.execution, stored) end

return M
