--- One execution on its way: the loop between its script and the door.
---
--- The script VM hands over calls; each live one is a task of its own; answers are fed in the order
--- in which they are recorded. A run that was begun before goes through its recorded answers first:
--- the script must ask the same again, in the same order, else the run ends as nondeterministic.
---
--- The loop belongs to one task (engine.runner starts it). It ends with an outcome: the script's
--- end, a stop (cancel, deadline), `parked` (only long waits are open: the coroutine is given up),
--- `released` (this worker drains: another one goes on) or `lost` (another one has gone on already).

local clock = require "kt.clock"
local crypto = require "kt.crypto"
local door = require "door"
local given = require "lib.given"
local patient = require "lib.patient"
local storage = require "domain.storage"
local task = require "kt.task"
local usage = require "engine.usage"
local value = require "value"

local M = {}

--- Seconds that a stopped script gets to end by itself.
M.GRACE_SECONDS = 5
--- Seconds that a script which computes gets before it is given back.
M.RELEASE_SECONDS = 1
--- A run whose open calls all wait longer than this gives up its coroutine.
M.PARK_SECONDS = 10
--- Bytes of an answer that a script holds itself; more comes as a handle {blob, bytes}.
M.ANSWER_BYTES = 32 * 1024

--- What tells two events of one call apart, by type: a call that is done again does not repeat them.
local IDENTITY = {
  ["rule.completed"] = "rule_id",
  ["dataset.loaded"] = "dataset_id",
  ["prompt.rendered"] = "prompt_id",
}

---@class engine.Outcome
---@field kind "done"|"error"|"stopped"|"parked"|"released"|"lost"
---@field value string? blob of what the script returned
---@field error table?
---@field until_ms integer? parked: when to go on
---@field calls table[]? parked: what is open

---@class engine.Stop
---@field status string
---@field stop_reason string
---@field error table? shown in the result; and what the script's calls answer

---@class engine.Run
---@field project table
---@field db table
---@field doc table the execution
---@field writer engine.Writer
---@field context door.Context
---@field stop engine.Stop?
local Run = {}
Run.__index = Run

---@param options table {project, db, doc, writer, vm, info, input, path, settings, files, recorded?, publish}
---@return engine.Run
function M.new(options)
  local doc = options.doc
  return setmetatable({
    project = options.project,
    db = options.db,
    doc = doc,
    writer = options.writer,
    vm = options.vm,
    path = options.path,
    info = options.info,
    input = options.input,
    publish = options.publish,
    recorded = options.recorded or { answers = {}, events = {}, last_seq = 0 },
    park_seconds = M.PARK_SECONDS,
    grace_seconds = M.GRACE_SECONDS,
    now = doc.started_at.ms,
    open = {},
    ready = {},
    signal = task.event(),
    ended = task.event(),
    steps = 0,
    tool_calls = 0,
    context = {
      project_id = options.project.id,
      db = options.db,
      execution_id = doc._id,
      execution = doc,
      settings = options.settings,
      currency = given(options.project.doc.settings.currency),
      tools = options.tools or {},
      files = options.files,
      bundle = doc.snapshot.bundle,
      capability = doc.capability,
      system_prompt_id = options.system_prompt_id,
      system_prompt_ref = options.system_prompt_ref,
      progress = {},
    },
  }, Run)
end

--- The error of a journal that does not fit what the script asks now.
local function nondeterministic(call, answer, what)
  return {
    kind = "error",
    nondeterministic = true,
    error = {
      code = "nondeterministic",
      message = string.format("call %d: %s", answer and answer.c or call.id, what),
      retryable = false,
      where = call and call.where,
      details = {
        recorded = answer and { name = answer.n, arguments = answer.h } or nil,
        asked = call and { name = call.name, arguments = call.hash } or nil,
      },
    },
  }
end

--- Note what an answer of erp.load or erp.sweep means for the result, also when it comes from the
--- journal.
local function note(self, call, ok, blob)
  self.steps = self.steps + 1
  if call.name == "tool.call" then
    self.tool_calls = self.tool_calls + 1
  end
  local service = door.service(call.name)
  if ok and service.noted then
    service.noted(self.context, (value.decode(blob)))
  end
end

--- Give the script an answer; from here on its time is `at`.
---@return boolean? ok, table? err the answer cannot be given any more
local function feed(self, call, ok, blob, at)
  self.open[call.id] = nil
  self.now = at
  note(self, call, ok, blob)
  if not ok then
    return self.script:answer(call.id, false, value.decode(blob), at)
  end
  local expand = door.service(call.name).expand
  if expand then
    local answer, err = expand(value.decode(blob))
    if not answer then
      return nil, err
    end
    blob = value.encode(answer)
  end
  return self.script:answer(call.id, true, blob, at)
end

--- What the service of a call sees.
local function view_of(self, call)
  local before = {}
  for _, record in ipairs(self.recorded.events[call.id] or {}) do
    local field = IDENTITY[record.t]
    before[record.t .. ":" .. tostring(field and record.d[field] or "")] = true
  end
  return {
    id = call.id,
    name = call.name,
    args = call.decoded,
    now = call.now,
    step = self.steps + 1,
    run = self.context,
    begun = function(type)
      return before[type .. ":"] == true
    end,
    written = function()
      -- Apart: a cancelled call must not hold a commit.
      return task.detach(self.writer.flush, self.writer):join()
    end,
    complete = function(type, data, used)
      call.completed = { type = type, data = data, usage = used }
    end,
    publish = function(type, data)
      self.publish(type, data)
    end,
    emit = function(type, data)
      local field = IDENTITY[type]
      if not before[type .. ":" .. tostring(field and data[field] or "")] and not self.writer.lost then
        self.writer:event(type, data, call.id)
      end
    end,
  }
end

local function failed(err)
  return false, value.encode(door.script_error(err))
end

--- An answer as the script gets it: large ones are kept in the store and named.
local function encode_answer(self, call, result)
  local encoded, blob = pcall(value.encode, result)
  if not encoded then
    return failed { code = "internal", message = "the answer cannot be carried: "
      .. tostring(type(blob) == "table" and blob.message or blob) }
  elseif #blob <= (door.service(call.name).answer_bytes or M.ANSWER_BYTES) then
    return true, blob
  end
  local text = value.json(blob)
  local kept, err = patient.call(storage.keep, self.db, text, self.doc._id)
  if not kept then
    return failed(err)
  end
  return true, value.encode { blob = kept.sha256, bytes = #text }
end

--- Do a call in a task of its own; its answer joins self.ready.
local function begin(self, call)
  call.started = true
  if self.stop then
    self.ready[#self.ready + 1] = { call = call, ok = false,
      blob = value.encode(door.script_error(self.stop.error)) }
    return
  end
  call.task = task.spawn(function()
    local service = door.service(call.name)
    local worked, result, err
    if service.class == "read" then
      worked, result, err = pcall(patient.call, service.run, call.view)
    else
      worked, result, err = pcall(service.run, call.view)
    end
    local ok, blob
    if not worked then
      -- A raised structured error comes from below (a cancelled task); any other is our fault.
      err = type(result) == "table" and result or { code = "internal", message = tostring(result) }
    end
    if worked and err == nil then
      ok, blob = encode_answer(self, call, result)
    else
      err = self.stop and self.stop.error or err
      ok, blob = failed(err)
      if call.completed then
        call.completed.data.error = door.script_error(err)
      end
    end
    self.ready[#self.ready + 1] = { call = call, ok = ok, blob = blob }
    self.signal:signal()
  end)
end

--- Take the new calls of the script. Live ones that do something are begun at once; `replaying`:
--- they may have an answer in the journal, and what was said to followers is not said again.
local function take(self, calls, replaying)
  for _, call in ipairs(calls) do
    call.decoded = value.decode(call.args)
    call.now = self.now
    call.view = view_of(self, call)
    if call.emit then
      if not replaying or call.name == "result.partial" then
        door.service(call.name).run(call.view)
      end
    else
      self.open[call.id] = call
      if not replaying and not door.service(call.name).wake_at then
        begin(self, call)
      end
    end
  end
end

local function open_calls(self)
  local list = {}
  for _, call in pairs(self.open) do
    list[#list + 1] = call
  end
  table.sort(list, function(a, b)
    return a.id < b.id
  end)
  return list
end

--- When every open call only waits, and long: the time of the first to end.
local function parked_until(self)
  local first
  for _, call in ipairs(open_calls(self)) do
    local wake_at = door.service(call.name).wake_at
    local at = wake_at and wake_at(call.view)
    if not at then
      return nil
    end
    first = math.min(first or at, at)
  end
  return first and first - clock.now() > self.park_seconds * 1000 and first or nil
end

--- Have a stopped script closed when the grace period is over.
local function arm(self, seconds)
  task.detach(function()
    if not self.over and not self.ended:wait(seconds) and self.script then
      self.killed = true
      self.killed_at = self.script:place()
      self.script:close()
      self.signal:signal()
    end
  end)
end

--- End the script: cooperatively (open and later calls fail with the stop's error), after the grace
--- period hard. Safe from any task; only the first stop counts.
---@param stop engine.Stop
function Run:halt(stop)
  if self.stop then
    return
  end
  self.stop = stop
  for _, call in pairs(self.open) do
    if call.task then
      call.task:cancel()
    end
  end
  self.signal:signal()
  if self.driving then
    arm(self, self.grace_seconds)
  end
end

--- Give the run back for another worker to go on with (this one drains).
function Run:release()
  self.releasing = true
  self.signal:signal()
  arm(self, M.RELEASE_SECONDS) -- it may compute and not wait
end

--- Wait for an answer. `parked_at`: nothing is under way, the first call ends then.
local function wait(self, parked_at)
  while #self.ready == 0 do
    if self.writer.lost then
      return { kind = "lost" }
    elseif self.killed then
      return { kind = self.stop and "stopped" or "released" }
    elseif self.releasing and not self.stop then
      return { kind = "released" }
    end
    if parked_at then
      return { kind = "parked", until_ms = parked_at }
    end
    local ok, err = self.signal:wait(3600)
    if not ok and err.code ~= "deadline_exceeded" then
      return { kind = "released", error = err }
    end
  end
  return nil
end

--- The event that tells of an answer, after it: what is written of the one is written of the other.
local function complete(self, call, at)
  local last = call.completed
  local seq = self.writer:event(last.type, last.data, call.id)
  if last.usage then
    self.writer:with { op = "insert", coll = "kt_p_token_usage",
      doc = usage.row(self.doc, seq, at, last.data.duration_ms, last.usage) }
  end
end

local function live(self)
  -- A stopped run is not parked again: what it waits for is answered with the stop.
  local parked_at = not self.stop and parked_until(self) or nil
  if not parked_at then
    for _, call in ipairs(open_calls(self)) do
      if not call.started then
        begin(self, call)
      end
    end
  end
  local outcome = wait(self, parked_at)
  if outcome then
    return outcome
  end
  local done = table.remove(self.ready, 1)
  local at = math.max(clock.now(), self.now)
  self.writer:answer(done.call, done.ok, done.blob, at)
  if done.call.completed then
    complete(self, done.call, at)
  end
  if (done.call.view.class or door.service(done.call.name).class) == "effect" then
    local ok, err = self.writer:flush()
    if not ok then
      return { kind = err.code == "lost" and "lost" or "released", error = err }
    end
  end
  local ok, err = feed(self, done.call, done.ok, done.blob, at)
  if not ok and err then
    return { kind = "error", error = err }
  end
  return nil
end

local function replay(self, answer)
  local call = self.open[answer.c]
  if not call then
    return nondeterministic(nil, answer, "the journal has " .. answer.n .. ", the script does not ask it")
  elseif call.name ~= answer.n then
    return nondeterministic(call, answer, "the journal has " .. answer.n .. ", the script asks " .. call.name)
  elseif call.hash ~= answer.h then
    return nondeterministic(call, answer, "the script asks " .. call.name .. " with other arguments")
  end
  local ok, err = feed(self, call, answer.o, tostring(answer.r), answer.a)
  if not ok and err then
    return { kind = "error", error = err }
  end
  return nil
end

--- The loop. Yields; returns when the script does not run any more.
---@return engine.Outcome
function Run:drive()
  local answers, next_answer = self.recorded.answers, 1
  self.driving = true
  if self.stop then
    arm(self, self.grace_seconds)
  end
  local script, err = self.vm:start {
    path = self.path,
    run = self.info,
    input = self.input,
    seed = crypto.sha256(self.doc._id),
    now = self.now,
  }
  if not script then
    return { kind = "error", error = err }
  end
  self.script = script
  local outcome
  repeat
    local event
    event, err = script:next()
    local answer = answers[next_answer]
    if not event then
      outcome = { kind = "error", error = err }
    elseif event.status == "calls" then
      take(self, event.calls, answer ~= nil)
      if #event.calls > 0 then
        outcome = nil -- it may go on by itself; it waits when it has nothing more to ask
      elseif answer then
        next_answer = next_answer + 1
        outcome = replay(self, answer)
      else
        outcome = live(self)
      end
    elseif answer then
      outcome = nondeterministic(nil, answer, "the journal has " .. answer.n .. ", the script ends before it")
    elseif event.status == "done" then
      outcome = { kind = self.stop and "stopped" or "done", value = event.value }
    else
      -- Where a tail call has left no line, the file at least.
      event.error.where = event.error.where or { script = self.path }
      outcome = { kind = self.stop and "stopped" or "error", error = event.error }
    end
    -- Closed while the script ran, or while one of its answers was on its way to the store.
    if self.killed and not (outcome and outcome.kind == "lost") then
      outcome = { kind = self.stop and "stopped" or "released" }
    end
  until outcome
  self.script = nil
  script:close()
  for _, call in pairs(self.open) do
    if call.task then
      call.task:cancel()
    end
  end
  self.over = true
  self.ended:signal()
  return outcome
end

return M
