--- Executions: accepted, looked up, cancelled. How they run is runner.lua's and run.lua's.

local audit = require "domain.audit"
local choices = require "erp.choices"
local clock = require "kt.clock"
local executions = require "domain.execution"
local finish = require "engine.finish"
local follow = require "engine.follow"
local given = require "lib.given"
local ids = require "domain.ids"
local instances = require "domain.instance"
local journal = require "engine.journal"
local json = require "json"
local json_schema = require "lib.json_schema"
local lease = require "engine.lease"
local queue = require "engine.queue"
local ready = require "engine.ready"
local runner = require "engine.runner"
local schema = require "http.schema"
local snapshot = require "engine.snapshot"
local states = require "engine.states"
local task = require "kt.task"
local value = require "value"

local M = {}

local function fail(code, message, more)
  local err = { code = code, message = message, retryable = false }
  for k, v in pairs(more or {}) do
    err[k] = v
  end
  return nil, err
end

local function field_error(pointer, code, message)
  return fail("validation_failed", message, { errors = { { pointer = pointer, code = code, message = message } } })
end

--- The form in which the API shows an execution.
---@param doc table stored form
---@param result table? stored form
---@return table
function M.public(doc, result)
  local plain = schema.to_plain(executions.execution, doc)
  plain.result = result and schema.to_plain(executions.result, result) or json.null
  return plain
end

--- A client that goes away cancels its request's task, but not what it began: from the commit on
--- the work is a root task, which the request only waits for.
local function apart(fn, ...)
  return task.detach(fn, ...):join()
end

--- Put a new execution into the store and start it, or line it up.
local function commit_and_start(project, principal, doc, pinned, options)
  local project_id, db = project.id, project.db
  local admitted, err = false
  if doc.run_at and doc.run_at > doc.created_at then
    doc.status, doc.due_at = "delayed", doc.run_at
  else
    admitted, err = queue.admit(project, db)
    if admitted == nil then
      return nil, err
    elseif admitted then
      doc.status = "running"
      doc.owner_epoch = lease.epoch()
      doc.started_at = doc.created_at
      doc.deadline_at = value.date(doc.created_at.ms + doc.timeout_ms)
    else
      doc.status, doc.due_at = "queued", doc.created_at
    end
  end
  if not admitted then
    local ok
    ok, err = queue.line_up(project, db)
    if not ok then
      return nil, err
    end
  end
  local ops = {
    { op = "insert", coll = "kt_p_executions", doc = doc },
    audit.entry(principal, "execution.create", "execution", doc._id, nil, options.req, { execution_id = doc._id }),
  }
  for _, op in ipairs(options.ops and options.ops(M.public(doc)) or {}) do
    ops[#ops + 1] = op
  end
  local done
  done, err = db:commit(ops)
  if not admitted then
    queue.lined_up(project_id)
  end
  if not done then
    if admitted then
      queue.settle(project_id)
    end
    if err.index and ops[err.index] then
      err.coll = ops[err.index].coll
    end
    return nil, err
  end
  if admitted then
    runner.start(project, doc, nil, { pinned = pinned })
    queue.settle(project_id)
  else
    if doc.status == "queued" then
      queue.queued(project_id)
    end
    ready.note(project_id, doc.due_at.ms)
    runner.announce(project_id, doc, doc.status)
  end
  return true
end

--- Accept an execution: it is in the store, with its audit entry, when this returns. With free
--- capacity it is born running, else (also while this worker drains) queued; with a later run_at delayed. With async_execution
--- false it is waited for, as long as the project's sync_wait_seconds.
---@param project kontor.Project
---@param principal kontor.Principal
---@param body table checked POST body
---@param options {req: table?, ops: (fun(doc: table): table[])?, instance: table?}? instance: the one that the
--- body names, where the caller has just read it
---@return table? doc public form, table? err
function M.accept(project, principal, body, options)
  options = options or {}
  if project.doc.status ~= "active" then
    return fail(project.doc.status == "archived" and "archived" or "invalid_state",
      "the project is " .. project.doc.status)
  end
  local instance, err = options.instance, nil
  if not instance then
    instance, err = project.db:find_one("kt_p_agent_instances", { _id = body.instance_id })
  end
  if err then
    return nil, err
  elseif not instance then
    return field_error("/instance_id", "not_found", "there is no such instance in this project")
  elseif instance.archived then
    return fail("archived", "the instance is archived")
  end
  local pinned
  pinned, err = snapshot.take(instance)
  if not pinned then
    return nil, err
  end
  local doc = schema.to_stored(executions.create, body)
  doc.input_data, doc.variables = given(doc.input_data) or {}, given(doc.variables) or {}
  local errors = {}
  local variables = given(pinned.template.variables) or {}
  instances.check_variables(variables, doc.variables, "/variables", errors)
  instances.check_required(variables, given(instance.system_prompt_variables) or {}, doc.variables, "/variables", errors)
  choices.check(pinned.bundle.files, doc.input_data, "/input_data", errors)
  local input_schema = given(pinned.template.input_schema)
  for _, e in ipairs(input_schema and json_schema.check(input_schema, doc.input_data) or {}) do
    errors[#errors + 1] = { pointer = "/input_data" .. e.pointer, code = e.code, message = e.message }
  end
  if #errors > 0 then
    return fail("validation_failed", "the body does not fit the agent", { errors = errors })
  end
  local settings = snapshot.settings(project, pinned.template, instance, doc.input_data)
  doc._id = ids.execution(project.number)
  doc.project_id = project.id
  doc.agent_id = instance.agent_id
  doc.async_execution = body.async_execution ~= false
  doc.run_at = given(doc.run_at)
  doc.priority = given(doc.priority) or 5
  doc.metadata = given(doc.metadata) or {}
  doc.attempt = 1
  doc.max_attempts = settings.max_attempts
  doc.created_by = principal.name
  doc.created_at = value.date(clock.now())
  doc.last_seq = 0
  doc.cancel_requested = false
  doc.snapshot = pinned.snapshot
  doc.capability = snapshot.capability(principal, pinned)
  doc.token = 1
  doc.workflow = pinned.template.workflow
  doc.timeout_ms = (given(doc.timeout_seconds) or settings.timeout) * 1000
  local ok
  ok, err = apart(commit_and_start, project, principal, doc, pinned, options)
  if not ok then
    return nil, err
  end
  if not doc.async_execution then
    return M.wait(project, doc._id, project.doc.settings.sync_wait_seconds)
  end
  return M.public(doc)
end

--- An execution as the store has it; last_seq is that of its journal.
---@param project table
---@param id string
---@return table? doc stored form, table? err not_found
local function read(project, id)
  local db = project.db
  -- By its id alone: those of a clone carry the number of the project that they were run in.
  local doc, err = db:find_one("kt_p_executions", { _id = id })
  if not doc then
    return nil, err or { code = "not_found", retryable = false }
  end
  if not states.FINAL[doc.status] then
    local seq
    seq, err = journal.last_seq(db, id)
    if not seq then
      return nil, err
    end
    doc.last_seq = seq
  end
  return doc
end

--- An execution as the API shows it.
---@param project kontor.Project
---@param id string
---@return table? doc, table? err not_found
function M.get(project, id)
  local doc, err = read(project, id)
  return doc and M.public(doc), err
end

--- The result of an ended execution.
local function result_of(project, doc)
  local result, err = project.db:find_one("kt_p_results", { _id = doc._id .. ":" .. doc.token })
  if not result then
    return nil, err or { code = "store_corrupt", message = "the ended execution has no result", retryable = false }
  end
  return result
end

--- Wait until an execution has ended, at most `seconds`.
---@param project table
---@param id string
---@param seconds number
---@return table? doc public form, as it is then, with its result when it has ended
---@return table? err
function M.wait(project, id, seconds)
  local at = clock.monotonic() + seconds
  local entry = runner.get(id)
  if entry then
    -- It runs here: its end is told here, and with it what the store has now.
    local ok, stop = entry.ended:wait(seconds)
    if not ok and stop.code ~= "deadline_exceeded" then
      return nil, stop
    elseif entry.final then
      return M.public(entry.final.doc, entry.final.result)
    end
    -- In time no end, or it goes on elsewhere or later.
  end
  local follower, err = follow.open(project.id, id, 0)
  if follower then
    local event
    repeat
      event, err = follower:next(math.max(0, at - clock.monotonic()))
    until not event
    follower:close()
  end
  -- Gone: it ended long ago.
  if err and err.code ~= "deadline_exceeded" and err.code ~= "gone" then
    return nil, err
  end
  local doc, result
  doc, err = read(project, id)
  if doc and states.FINAL[doc.status] then
    result, err = result_of(project, doc)
    if not result then
      return nil, err
    end
  end
  return doc and M.public(doc, result), err
end

local function cancel(project, principal, id, reason, options)
  local db = project.db
  for _ = 1, 10 do
    local doc, err = read(project, id)
    if not doc then
      return nil, err
    elseif doc.status == "cancelled" then
      return M.public(doc)
    elseif states.FINAL[doc.status] then
      return fail("invalid_state", "the execution has ended as " .. doc.status)
    end
    local ops = {
      { op = "update", coll = "kt_p_executions", must_match = true,
        filter = { _id = id, status = doc.status, token = doc.token },
        update = { set = { cancel_requested = true } } },
      audit.entry(principal, "execution.cancel", "execution", id,
        reason and { { pointer = "/reason", from = json.null, to = reason } } or nil,
        options.req, { execution_id = id }),
    }
    doc.cancel_requested = true
    for _, op in ipairs(options.ops and options.ops(M.public(doc)) or {}) do
      ops[#ops + 1] = op
    end
    local done
    done, err = db:commit(ops)
    if done then
      if doc.status ~= "running" then
        done, err = finish.from_outside(project, db, doc,
          { status = "cancelled", stop_reason = "cancelled", partial = false })
        if not done and err.code ~= "lost" then
          return nil, err
        end
        -- Lost: it was started meanwhile and finds cancel_requested, or runs here already.
      end
      if runner.halt(id, runner.cancel_stop()) then
        return M.get(project, id)
      end
      local now
      now, err = read(project, id)
      if not now then
        return nil, err
      elseif now.status == "running" or states.FINAL[now.status] then
        return M.public(now) -- another worker's: it looks for cancel_requested
      end
      -- Parked in between: end it as what waits.
    elseif err.code ~= "conflict" then
      return nil, err
    end
    -- It changed its status in between: look again.
  end
  return fail("conflict", "the execution changes too fast", { retryable = true })
end

--- Cancel an execution: one that runs is asked to end, any other ends here.
---@param project table
---@param principal kontor.Principal
---@param id string
---@param reason string?
---@param options {req: table?, ops: (fun(doc: table): table[])?}?
---@return table? doc public form, table? err invalid_state when it has ended otherwise
function M.cancel(project, principal, id, reason, options)
  return apart(cancel, project, principal, id, reason, options or {})
end

return M
