--- The end of an execution: one result for every ended run, in the commit that makes it visible.
---
--- One commit = the last chunk of the journal + usage + result + findings + one update of the
--- execution filtered by its token. Nothing of it is seen before, and none of it changes later.

local clock = require "kt.clock"
local config = require "kt.config"
local file = require "kt.file"
local findings = require "domain.finding"
local hub = require "engine.hub"
local journal = require "engine.journal"
local json = require "json"
local log = require "kt.log"
local metrics = require "engine.metrics"
local value = require "value"

local M = {}

--- Bytes of a result's output.
M.OUTPUT_BYTES = 1024 * 1024

--- What a waiting run has to show, in its document: an output, and the little beside it.
M.PARKED_BYTES = M.OUTPUT_BYTES + 64 * 1024

---@class engine.End how a run ended
---@field status string
---@field stop_reason string
---@field error table?
---@field output any JSON value or nil
---@field partial boolean

--- floor(8 log2 ms): percentiles within 5 % out of counts.
---@param ms integer
---@return integer
function M.duration_bucket(ms)
  return math.floor(8 * math.log(math.max(ms, 1)) / math.log(2))
end

--- The error of a run as it is kept and shown.
---@param err table
---@return table
function M.error_doc(err)
  local where = err.where
  return {
    code = err.code or "internal",
    message = tostring(err.message or "the script failed"):sub(1, 4096),
    retryable = err.retryable == true,
    where = where and { script = where.script, line = where.line ~= 0 and where.line or nil } or nil,
    details = type(err.details) == "table" and err.details or nil,
  }
end

local function ms_of(date)
  return date and date.ms
end

--- Numbers of an ended run.
local function metrics_of(doc, run, progress, now, found)
  local started = ms_of(doc.started_at)
  return {
    duration_ms = started and now - started or 0,
    -- Before its run_at it was not in the queue: one that is cancelled then has waited for nothing.
    queued_ms = math.max(0, (started or now) - math.max(ms_of(doc.run_at) or 0, doc.created_at.ms)),
    steps = run and run.steps or 0,
    model_calls = 0,
    tool_calls = run and run.tool_calls or 0,
    input_tokens = 0,
    output_tokens = 0,
    rows = progress.rows or 0,
    findings = found and found.total or 0,
  }
end

--- Copy of the report for people who look into a folder; the blob counts.
local function copy_report(project_id, doc, db, report, warnings)
  local directory = config.get("ERP_REPORTS_DIRECTORY")
  if not directory or directory == "" then
    return nil
  end
  directory = directory .. "/" .. project_id
  local path = directory .. "/" .. doc._id .. ".json"
  local ok, err = file.mkdir(directory)
  if ok then
    ok, err = db:blob_to_file(report.sha256, path)
  end
  if not ok then
    warnings[#warnings + 1] = { code = err.code or "internal",
      message = "the report could not be copied to " .. path .. ": " .. tostring(err.message) }
    log.warn("report.copy_failed", { project_id = project_id, execution_id = doc._id, msg = err.message })
    return nil
  end
  return path
end

--- The output as it fits into the result, or the error that it is too large.
local function checked_output(ended)
  if ended.output == nil then
    return
  end
  local encoded, blob = pcall(value.encode, ended.output)
  if encoded and #blob <= M.OUTPUT_BYTES then
    return
  end
  ended.output = nil
  ended.partial = false
  if ended.status == "completed" then
    ended.status, ended.stop_reason = "failed", "error"
    ended.error = {
      code = "output_limit",
      message = encoded and string.format("the output has %d bytes, at most %d are kept", #blob, M.OUTPUT_BYTES)
        or "the output cannot be kept",
      retryable = false,
    }
  end
end

--- End a run in the store and tell everyone. `token` is the one its update is filtered by: the
--- writer's. Yields until it is in the store or the run is lost.
---@param o {project: table, db: table, doc: table, writer: engine.Writer, run: engine.Run?, parked: table?, from: string?, ended: table?}
--- `parked`: what a run that is not here had to show; `from`: the status in the store that is ended
--- (running when absent); `ended` is filled: the result
--- and what was set in the execution's document
---@param ended engine.End
---@return table? result, table? err code "lost": someone else ended it
function M.finish(o, ended)
  local doc, writer, db = o.doc, o.writer, o.db
  local project_id = o.project.id
  local progress = o.run and o.run.context.progress or o.parked or {}
  local report = progress.report
  -- Those of its last sweep first, then what its end adds.
  local warnings = { unpack(progress.warnings or {}) }
  checked_output(ended)
  local found, ops, err
  if report then
    -- Rows of the worklist only for what counts: a run that was stopped shows its report, no more.
    found, ops = findings.of_report(db, doc, report, ended.status == "completed", value.date(clock.now()))
    if not found then
      warnings[#warnings + 1] = { code = ops.code or "internal",
        message = "the findings could not be listed: " .. tostring(ops.message) }
      ops = nil
    elseif (found.left_out or 0) > 0 then
      warnings[#warnings + 1] = { code = "findings_cut", message = string.format(
        "the worklist has the %d worst findings, %d more are in the report alone", #ops, found.left_out) }
    end
  end
  local path = report and copy_report(project_id, doc, db, report, warnings)
  while writer.busy do
    writer.busy:wait()
  end
  -- Not before anything of the run, should the clock have been set back.
  local now = math.max(clock.now(), o.run and o.run.now or 0)
  local numbers = metrics_of(doc, o.run or o.parked, progress, now, found)
  local error_doc = ended.error and M.error_doc(ended.error) or nil
  if not writer.lost then
    writer:event("execution." .. ended.status, {
      status = ended.status,
      stop_reason = ended.stop_reason,
      partial = ended.partial,
      error = error_doc,
      metrics = numbers,
    })
  end
  local at = value.date(now)
  local result = {
    _id = doc._id .. ":" .. writer.token,
    execution_id = doc._id,
    project_id = project_id,
    instance_id = doc.instance_id,
    agent_id = doc.agent_id,
    status = ended.status,
    stop_reason = ended.stop_reason,
    partial = ended.partial,
    output = ended.output,
    report = report and {
      sha256 = report.sha256, bytes = report.bytes, media_type = "application/json", path = path,
    } or nil,
    artifacts = json.array {},
    metrics = numbers,
    warnings = json.array(warnings),
    error = error_doc,
    created_at = at,
    day = tostring(at):sub(1, 10),
    duration_bucket = M.duration_bucket(numbers.duration_ms),
    mapping = progress.mapping,
    by_category = found and found.by_category or nil,
    by_severity = found and found.by_severity or nil,
  }
  local set = {
    status = ended.status,
    stop_reason = ended.stop_reason,
    finished_at = at,
    duration_ms = numbers.duration_ms,
    last_seq = writer.seq,
    error = error_doc,
    usage = { model_calls = 0, tool_calls = numbers.tool_calls, input_tokens = 0, output_tokens = 0 },
  }
  local commit, done = writer:take()
  commit[#commit + 1] = { op = "insert", coll = "kt_p_results", doc = result }
  for _, op in ipairs(ops or {}) do
    commit[#commit + 1] = op
  end
  commit[#commit + 1] = {
    op = "update", coll = "kt_p_executions", must_match = true,
    filter = { _id = doc._id, token = writer.token, status = o.from or "running" },
    update = {
      set = set,
      unset = { "wake_at", "parked" },
    },
  }
  local results
  results, err = writer:commit(commit)
  if not results then
    return nil, err
  end
  done()
  o.ended = { result = result, set = set }
  metrics.ended(project_id, ended.status)
  log.execution {
    project_id = project_id,
    execution_id = doc._id,
    instance_id = doc.instance_id,
    status = ended.status,
    stop_reason = ended.stop_reason,
    duration_ms = numbers.duration_ms,
    findings = numbers.findings,
  }
  return result
end

--- End an execution that does not run here (it is queued, waiting, or its worker is dead): take it
--- over by its token, then finish it.
---@param project table
---@param db table
---@param doc table as it was read; its status and token must still hold
---@param ended engine.End
---@return table? result, table? err code "lost": it went on meanwhile
function M.from_outside(project, db, doc, ended)
  local token = doc.token + 1
  local taken, err = db:update_one("kt_p_executions",
    { _id = doc._id, status = doc.status, token = doc.token },
    { set = { token = token } })
  if not taken then
    return nil, err
  elseif taken.matched == 0 then
    return nil, { code = "lost", message = "the execution went on", retryable = true }
  end
  local last
  last, err = journal.last_seq(db, doc._id)
  if not last then
    return nil, err
  end
  local writer = journal.writer {
    db = db, execution_id = doc._id, token = token, last_seq = last,
    publish = function(event)
      hub.publish(doc._id, event)
    end,
  }
  local parked = doc.parked
  if parked and parked.partial ~= nil then
    ended.output, ended.partial = parked.partial, true
  end
  return M.finish({ project = project, db = db, doc = doc, writer = writer, parked = parked, from = doc.status }, ended)
end

return M
