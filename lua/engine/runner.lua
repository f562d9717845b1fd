--- The executions that run in this worker: starts them, ends them, knows them.

local clock = require "kt.clock"
local finish = require "engine.finish"
local given = require "lib.given"
local hub = require "engine.hub"
local instances = require "domain.instance"
local journal = require "engine.journal"
local json = require "json"
local json_schema = require "lib.json_schema"
local lease = require "engine.lease"
local log = require "kt.log"
local metrics = require "engine.metrics"
local patient = require "lib.patient"
local ready = require "engine.ready"
local run = require "engine.run"
local snapshot = require "engine.snapshot"
local task = require "kt.task"
local value = require "value"
local vms = require "engine.vms"

local M = {}

--- Seconds that runs get to be written down when they are given back.
local RELEASE_SECONDS = 3

---@class engine.Entry
---@field project table
---@field doc table
---@field run engine.Run?
---@field stop engine.Stop? asked for before the run began
---@field final {doc: table, result: table}? stored forms, once it has ended in the store
---@field ended table event

--- Runs are given back as soon as they can be (this worker ends).
M.releasing = false

---@type table<string, engine.Entry> by execution id
local entries = {}
---@type table<string, integer> by project id
local counts = {}
local on_end = function() end

--- Who wants to know that a project has room again.
---@param fn fun(project_id: string)
function M.when_ended(fn)
  on_end = fn
end

---@param execution_id string
---@return engine.Entry?
function M.get(execution_id)
  return entries[execution_id]
end

---@param project_id string
---@return integer
function M.running(project_id)
  return counts[project_id] or 0
end

---@return integer
function M.total()
  local n = 0
  for _ in pairs(entries) do
    n = n + 1
  end
  return n
end

local function publisher(execution_id)
  return function(type, data)
    hub.publish(execution_id, {
      v = 1,
      type = type,
      execution_id = execution_id,
      at = tostring(value.date(clock.now())),
      data = data,
    })
  end
end

--- Tell followers and the log of a change of status that no numbered event tells.
---@param project_id string
---@param doc table
---@param status string
function M.announce(project_id, doc, status)
  publisher(doc._id)("execution.status", { status = status })
  log.execution {
    project_id = project_id, execution_id = doc._id, instance_id = doc.instance_id, status = status,
  }
end

--- What a workflow gets as `run`.
local function info_of(doc, pinned, settings)
  return {
    execution_id = doc._id,
    project_id = doc.project_id,
    instance_id = doc.instance_id,
    agent_id = doc.agent_id,
    created_by = doc.created_by,
    attempt = doc.attempt,
    settings = settings,
    variables = doc.variables,
    instance_variables = instances.with_defaults(given(pinned.template.variables) or {},
      given(pinned.instance.system_prompt_variables) or {}),
    system_prompt_id = given(pinned.template.system_prompt_id),
    system_prompt_ref = given(pinned.template.system_prompt_ref),
  }
end

--- A workflow has returned. An output that is not what its agent promises is a failure that shows it.
local function returned(output, schema)
  local errors = schema and json_schema.check(schema, output) or {}
  if #errors == 0 then
    return { status = "completed", stop_reason = "done", output = output, partial = false }
  end
  return {
    status = "failed",
    stop_reason = "error",
    error = { code = "script_error", retryable = false, details = { errors = json.array(errors) }, message =
      ("the output does not fit the agent's output_schema: %s %s"):format(errors[1].pointer, errors[1].message) },
    output = output,
    partial = true,
  }
end

local function ended_of(this, outcome, output_schema)
  local partial = this.context.progress.partial
  local stop = this.stop
  if outcome.kind == "done" then
    return returned(value.decode(outcome.value), output_schema)
  elseif outcome.kind == "stopped" then
    local output = partial
    if output == nil and outcome.value then
      output = given(value.decode(outcome.value))
    end
    -- Where the script was when it had to end.
    stop.error.where = stop.error.where or this.killed_at or outcome.error and outcome.error.where
    return { status = stop.status, stop_reason = stop.stop_reason, error = stop.status ~= "cancelled" and stop.error
      or nil, output = output, partial = output ~= nil }
  end
  local err = outcome.error or { code = "internal", message = "the run ended without a word" }
  -- A code deadline_exceeded is not the run's own deadline here, that is a stop.
  return {
    status = "failed",
    stop_reason = outcome.nondeterministic and "nondeterministic" or "error",
    error = err,
    output = partial,
    partial = partial ~= nil,
  }
end

--- What a run has to show, as its document holds it while the run is nowhere in memory.
local function shown(this)
  local kept = { steps = this.steps, tool_calls = this.tool_calls }
  for _, name in ipairs { "partial", "report", "rows", "mapping", "warnings" } do
    kept[name] = this.context.progress[name]
  end
  if #value.encode(kept) > finish.PARKED_BYTES then
    kept.partial = nil
  end
  return kept
end

--- Give the coroutine up until `until_ms`.
---@return boolean parked
local function park(entry, writer, until_ms)
  local doc = entry.doc
  local due = math.min(until_ms, doc.deadline_at and doc.deadline_at.ms or until_ms)
  writer:event("execution.waiting", { reason = "sleep", ["until"] = tostring(value.date(until_ms)) })
  while writer.busy do
    writer.busy:wait()
  end
  local ops, done = writer:take()
  ops[#ops + 1] = {
    op = "update", coll = "kt_p_executions", must_match = true,
    filter = { _id = doc._id, token = writer.token, status = "running" },
    update = { set = { status = "waiting", due_at = value.date(due), last_seq = writer.seq,
      parked = shown(entry.run) } },
  }
  local results, err = writer:commit(ops)
  if not results then
    log.error("execution.park_failed", { project_id = entry.project.id, execution_id = doc._id,
      msg = err.message })
    return false
  end
  done()
  ready.note(entry.project.id, due)
  log.execution { project_id = entry.project.id, execution_id = doc._id, instance_id = doc.instance_id,
    status = "waiting" }
  return true
end

--- Give a run to whoever claims it next: this worker drains.
local function release(entry, writer)
  local doc, now = entry.doc, clock.now()
  while writer.busy do
    writer.busy:wait()
  end
  local ops, done = writer:take()
  ops[#ops + 1] = {
    op = "update", coll = "kt_p_executions", must_match = true,
    filter = { _id = doc._id, token = writer.token, status = "running" },
    update = { set = { status = "queued", due_at = value.date(now), last_seq = writer.written } },
  }
  local results, err = writer:commit(ops)
  if results then
    done()
    ready.note(entry.project.id, now)
    M.announce(entry.project.id, doc, "queued")
  else
    log.error("execution.release_failed", { project_id = entry.project.id, execution_id = doc._id,
      msg = err.message })
  end
end

local function deadline_stop()
  return {
    status = "timed_out",
    stop_reason = "deadline",
    error = { code = "deadline_exceeded", message = "the execution ran into its timeout", retryable = true },
  }
end

local function begin(entry, db, writer, recorded, reason)
  local doc = entry.doc
  if reason then
    writer:event("execution.resumed", { attempt = doc.attempt, from_seq = recorded.last_seq, reason = reason })
  else
    writer:event("execution.started", { attempt = doc.attempt, worker = lease.name(), snapshot = doc.snapshot })
  end
  local pinned, err = entry.pinned, nil
  if not pinned then
    pinned, err = patient.call(snapshot.load, db, doc)
  end
  if not pinned then
    return nil, err
  end
  local vm
  vm, err = vms.acquire(entry.project.id, pinned.bundle)
  if not vm then
    return nil, err
  end
  local settings = snapshot.settings(entry.project, pinned.template, pinned.instance, doc.input_data)
  entry.vm = vm
  entry.output_schema = given(pinned.template.output_schema)
  entry.run = run.new {
    project = entry.project,
    db = db,
    doc = doc,
    writer = writer,
    vm = vm.vm,
    path = doc.workflow,
    info = info_of(doc, pinned, settings),
    input = doc.input_data,
    settings = settings,
    tools = pinned.tools,
    files = pinned.bundle.files,
    recorded = recorded,
    system_prompt_id = pinned.template.system_prompt_id,
    system_prompt_ref = pinned.template.system_prompt_ref,
    publish = publisher(doc._id),
  }
  if doc.cancel_requested then
    entry.stop = M.cancel_stop()
  end
  if M.releasing then
    entry.run:release()
  end
  if entry.stop then
    entry.run:halt(entry.stop)
  end
  return true
end

--- What a cancelled run's calls answer.
---@return engine.Stop
function M.cancel_stop()
  return {
    status = "cancelled",
    stop_reason = "cancelled",
    error = { code = "cancelled", message = "the execution was cancelled", retryable = false },
  }
end

local function watch(entry, writer)
  local flusher = task.spawn(function()
    local err = writer:flusher()
    if err.code == "lost" then
      entry.run.signal:signal()
    elseif err.code ~= "cancelled" then
      entry.run:halt { status = "failed", stop_reason = "error", error = err }
    end
  end)
  local timer = task.spawn(function()
    local left = entry.doc.deadline_at.ms - clock.now()
    if left <= 0 or task.sleep(left / 1000) then
      entry.run:halt(deadline_stop())
    end
  end)
  return function()
    timer:cancel()
    flusher:cancel()
  end
end

--- A run whose end the store refuses (not: cannot be reached) ends as failed by our fault instead.
local function finished(entry, this, ended)
  local result, err = finish.finish(this, ended)
  if result then
    local doc = {}
    for name, v in pairs(this.doc) do
      doc[name] = v
    end
    for name, v in pairs(this.ended.set) do
      doc[name] = v
    end
    entry.final = { doc = doc, result = result }
  elseif err.code ~= "lost" then
    error(err, 0)
  end
end

local function work(entry, db, reason)
  local doc = entry.doc
  local recorded, err = { answers = {}, events = {}, last_seq = 0 }, nil
  if reason then
    recorded, err = patient.call(journal.load, db, doc._id)
  end
  local writer = journal.writer {
    db = db,
    execution_id = doc._id,
    token = doc.token,
    last_seq = recorded and recorded.last_seq or doc.last_seq,
    publish = function(event)
      hub.publish(doc._id, event)
    end,
  }
  local begun = recorded
  if recorded then
    begun, err = begin(entry, db, writer, recorded, reason)
  end
  local this = { project = entry.project, db = db, doc = doc, writer = writer, run = entry.run }
  if not begun then
    return finished(entry, this, { status = "failed", stop_reason = "error", error = err, partial = false })
  end
  local unwatch = watch(entry, writer)
  local outcome = entry.run:drive()
  if outcome.kind == "parked" and not entry.run.stop then
    if park(entry, writer, outcome.until_ms) and entry.run.stop then
      -- Cancelled in the moment of parking: nobody else will end it.
      this.from = "waiting"
      outcome = { kind = "stopped" }
    end
  elseif outcome.kind == "parked" then
    outcome = { kind = "stopped" }
  elseif outcome.kind == "released" then
    release(entry, writer)
  end
  if outcome.kind ~= "parked" and outcome.kind ~= "released" and outcome.kind ~= "lost" then
    finished(entry, this, ended_of(entry.run, outcome, entry.output_schema))
  end
  unwatch()
end

--- Start an execution that is ours: its document says running with our epoch.
---@param project table
---@param doc table
---@param reason "takeover"|"wake"|"resume"|nil nil: its first start
---@param options {pinned: engine.Pinned?}? what its snapshot names, where it is at hand
---@return engine.Entry
function M.start(project, doc, reason, options)
  local project_id = project.id
  local entry = {
    project = project, doc = doc, ended = task.event(), pinned = options and options.pinned,
  }
  entries[doc._id] = entry
  counts[project_id] = (counts[project_id] or 0) + 1
  metrics.running(project_id, counts[project_id])
  log.execution { project_id = project_id, execution_id = doc._id, instance_id = doc.instance_id,
    status = "running" }
  task.detach(function()
    local db = project.db
    local ok, err = pcall(work, entry, db, reason)
    if not ok then
      err = type(err) == "table" and err or { code = "internal", message = tostring(err), retryable = false }
      log.error("execution.broken", { project_id = project_id, execution_id = doc._id, msg = err.message })
      finish.from_outside(project, db, doc, { status = "failed", stop_reason = "error", partial = false,
        error = { code = "internal", message = "the service failed to run this", retryable = true } })
    end
    if entry.vm then
      vms.release(entry.vm)
    end
    entries[doc._id] = nil
    counts[project_id] = counts[project_id] - 1
    metrics.running(project_id, counts[project_id])
    if counts[project_id] == 0 then
      counts[project_id] = nil
    end
    entry.ended:signal()
    on_end(project_id)
  end)
  return entry
end

--- Stop an execution that runs here.
---@param execution_id string
---@param stop engine.Stop
---@return boolean found
function M.halt(execution_id, stop)
  local entry = entries[execution_id]
  if not entry then
    return false
  end
  if entry.run then
    entry.run:halt(stop)
  else
    entry.stop = entry.stop or stop
  end
  return true
end

--- Stop those that another worker was asked to cancel: it could only note it in the document.
function M.check_cancelled()
  local projects = {}
  for _, entry in pairs(entries) do
    projects[entry.project.id] = entry.project
  end
  for _, project in pairs(projects) do
    local list, err = project.db:find("kt_p_executions",
      { status = "running", cancel_requested = true, owner_epoch = lease.epoch() },
      { projection = { "_id" }, limit = 500 })
    if not list then
      log.warn("cancel.read_failed", { project_id = project.id, msg = err.message })
    end
    for _, doc in ipairs(list or {}) do
      M.halt(doc._id, M.cancel_stop())
    end
  end
end

--- Wait until all have ended, at most `seconds`; then give the rest back for others.
---@param seconds number
function M.drain(seconds)
  local at = clock.monotonic() + seconds
  for _, id in ipairs(M.ids()) do
    local left = at - clock.monotonic()
    while entries[id] and left > 0 do
      entries[id].ended:wait(math.min(left, 1))
      M.check_cancelled() -- the next set of workers is asked by now
      left = at - clock.monotonic()
    end
  end
  M.releasing = true -- also those that begin now: their accept was on its way
  for _, id in ipairs(M.ids()) do
    if entries[id].run then
      entries[id].run:release()
    end
  end
  at = clock.monotonic() + RELEASE_SECONDS
  while next(entries) and clock.monotonic() < at do
    local _, entry = next(entries)
    entry.ended:wait(at - clock.monotonic())
  end
  vms.close()
end

---@return string[]
function M.ids()
  local list = {}
  for id in pairs(entries) do
    list[#list + 1] = id
  end
  table.sort(list)
  return list
end

return M
