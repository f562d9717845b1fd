--- The journal of an execution: what its script was answered and what its followers see.
---
--- One commit of a run is one chunk, a document of kt_p_events:
---
---   {_id = "<execution_id>:<first seq, ten digits>", token, n, v = 1, at, events}
---
--- `n` counts the numbered events, whose seq run from the chunk's first without a gap; `events` is
--- binary, at most 64 KiB: records one after another, each a door value (see kt_value_encode), in
--- the order in which they happened. Format v1 knows two records:
---
---   numbered event  {t = type, d = data, s = seq, a = ms UTC, c = call that it belongs to, or absent}
---   answer          {n = call's name, c = call id, h = sha256 of its arguments, o = ok,
---                    r = the answer's blob, or of {code, message, retryable, details}, a = ms UTC}
---
--- A chunk holds at least one numbered event (its `_id` is one): answers without an event ride with
--- the next one. The format is frozen by tests/golden/journal_v1.json; a change is a new `v`.

local clock = require "kt.clock"
local task = require "kt.task"
local value = require "value"

local M = {}

M.COLLECTION = "kt_p_events"
M.VERSION = 1
--- Bytes of `events` in one chunk.
M.CHUNK_BYTES = 64 * 1024
--- Bytes of one record; what is larger belongs into a blob.
M.RECORD_BYTES = 40 * 1024
--- Room that a chunk keeps for the event that it may still need.
local EVENT_ROOM = 1024
--- The last millisecond of the year 9999, which RFC 3339 can still write.
local LAST_DATE = 253402300799999
--- Seconds that an event may wait for company before it is written.
M.FLUSH_SECONDS = 0.1

---@class engine.Event a numbered event as followers get it (api.md 6)
---@field v integer 1
---@field seq integer
---@field type string
---@field execution_id string
---@field at string RFC 3339 UTC
---@field data table

---@class engine.Answer a recorded answer of a door call
---@field c integer call id
---@field n string name of the call
---@field h string sha256 of its arguments
---@field o boolean
---@field r userdata binary: the blob of the answer, or of the error
---@field a integer ms UTC

---@param execution_id string
---@param seq integer
---@return string
function M.chunk_id(execution_id, seq)
  return string.format("%s:%010d", execution_id, seq)
end

---@param id string `_id` of a chunk
---@return integer first_seq
function M.first_seq(id)
  return tonumber(id:match(":(%d+)$")) --[[@as integer]]
end

--- Filter of the chunks of a run that begin at `from` or later.
---@param execution_id string
---@param from integer?
function M.chunks_of(execution_id, from)
  return {
    { "_id", "gte", M.chunk_id(execution_id, from or 0) },
    { "_id", "lt", execution_id .. ";" },
  }
end

--- The bytes of one record. Raises on what cannot be stored, with the path.
---@param record table
---@return string
function M.pack(record)
  return value.encode(record)
end

local function integral(n, least, most)
  return type(n) == "number" and n % 1 == 0 and n >= least and n <= most
end

--- A record as it was packed: what reads it may rely on its time and, of an event, on its number.
local function is_record(record)
  return type(record) == "table"
    and integral(record.a, 0, LAST_DATE)
    and (record.t == nil or type(record.t) == "string" and integral(record.s, 1, 2 ^ 53))
end

--- The records of a chunk's `events`.
---@param events string|userdata
---@return table[]? records, table? err {code = "store_corrupt"}
function M.unpack(events)
  local bytes = tostring(events)
  local records, at = {}, 1
  while at <= #bytes do
    local a, b, c, d = bytes:byte(at, at + 3)
    local size = d and a + b * 256 + c * 65536 + d * 16777216
    if not size or size < 5 or at + size - 1 > #bytes then
      return nil, { code = "store_corrupt", message = "a chunk of the journal is cut off" }
    end
    local read, record = pcall(value.decode, bytes:sub(at, at + size - 1))
    if not read or not is_record(record) then
      return nil, { code = "store_corrupt", message = "a record of the journal cannot be read" }
    end
    records[#records + 1] = record
    at = at + size
  end
  return records
end

---@param record table a record with `t`
---@param execution_id string
---@return engine.Event
function M.public_event(record, execution_id)
  return {
    v = 1,
    seq = record.s,
    type = record.t,
    execution_id = execution_id,
    at = tostring(value.date(record.a)),
    data = record.d,
  }
end

--- Numbered events of a run after `since`, at most about `limit`.
---@param db table
---@param execution_id string
---@param since integer exclusive
---@param limit integer?
---@return engine.Event[]? events in order, table? err
function M.events_after(db, execution_id, since, limit)
  -- The chunk that holds since + 1 begins at it or before it.
  local head, err = db:find(M.COLLECTION, {
    { "_id", "gte", M.chunk_id(execution_id, 0) },
    { "_id", "lte", M.chunk_id(execution_id, since + 1) },
  }, { sort = { { "_id", -1 } }, limit = 1, projection = { "_id" } })
  if not head then
    return nil, err
  end
  local from = head[1] and M.first_seq(head[1]._id) or since + 1
  local chunks
  chunks, err = db:find(M.COLLECTION, M.chunks_of(execution_id, from),
    { sort = { { "_id", 1 } }, limit = 16 })
  if not chunks then
    return nil, err
  end
  local events = {}
  for _, chunk in ipairs(chunks) do
    local records, bad = M.unpack(chunk.events)
    if not records then
      return nil, bad
    end
    for _, record in ipairs(records) do
      if record.t and record.s > since then
        events[#events + 1] = M.public_event(record, execution_id)
      end
    end
    if limit and #events >= limit then
      break
    end
  end
  return events
end

--- The error of a run whose events were deleted by its project's policy (domain/retention.lua).
---@param doc table execution, with events_deleted_at
---@return table? err nil when they are there
function M.gone(doc)
  if doc.events_deleted_at then
    return { code = "gone", retryable = false, message = "the events of this execution were deleted at "
      .. tostring(doc.events_deleted_at) .. ": the project keeps them no longer (retention_days)" }
  end
end

--- The newest seq of a run; 0 before its first chunk.
---@param db table
---@param execution_id string
---@return integer? seq, table? err
function M.last_seq(db, execution_id)
  local last, err = db:find(M.COLLECTION, M.chunks_of(execution_id),
    { sort = { { "_id", -1 } }, limit = 1, projection = { "n" } })
  if not last then
    return nil, err
  end
  return last[1] and M.first_seq(last[1]._id) + last[1].n - 1 or 0
end

---@class engine.Recorded
---@field answers engine.Answer[] in the order in which the script got them
---@field events table<integer, table[]> events by the call that they belong to
---@field last_seq integer

--- The whole journal of a run, for going on with it.
---@param db table
---@param execution_id string
---@return engine.Recorded? recorded, table? err
function M.load(db, execution_id)
  local recorded = { answers = {}, events = {}, last_seq = 0 }
  local from = 0
  while true do
    local chunks, err = db:find(M.COLLECTION, M.chunks_of(execution_id, from),
      { sort = { { "_id", 1 } }, limit = 16 })
    if not chunks then
      return nil, err
    end
    for _, chunk in ipairs(chunks) do
      local first = M.first_seq(chunk._id)
      if chunk.v ~= M.VERSION or first ~= recorded.last_seq + 1 then
        return nil, { code = "store_corrupt", message = string.format(
          "chunk %s does not follow seq %d in version %d", chunk._id, recorded.last_seq, M.VERSION) }
      end
      local records, bad = M.unpack(chunk.events)
      if not records then
        return nil, bad
      end
      for _, record in ipairs(records) do
        if record.t then
          recorded.last_seq = record.s
          if record.c then
            local list = recorded.events[record.c] or {}
            recorded.events[record.c] = list
            list[#list + 1] = record
          end
        else
          recorded.answers[#recorded.answers + 1] = record
        end
      end
      from = recorded.last_seq + 1
    end
    if #chunks < 16 then
      return recorded
    end
  end
end

---@class engine.Writer
---@field seq integer the newest number given out
---@field written integer the newest number that is in the store
---@field lost boolean the run belongs to someone else now: stop at once
local Writer = {}
Writer.__index = Writer

---@class engine.WriterOptions
---@field db table
---@field execution_id string
---@field token integer
---@field last_seq integer
---@field publish fun(event: engine.Event) called for each numbered event once it is in the store
---@field flush_seconds number?

---@param options engine.WriterOptions
---@return engine.Writer
function M.writer(options)
  return setmetatable({
    db = options.db,
    execution_id = options.execution_id,
    token = options.token,
    publish = options.publish,
    flush_seconds = options.flush_seconds or M.FLUSH_SECONDS,
    seq = options.last_seq,
    written = options.last_seq,
    full = {},
    more = {},
    chunk = nil,
    lost = false,
    busy = nil,
    added = task.event(),
  }, Writer)
end

local function append(self, bytes)
  local chunk = self.chunk
  chunk.parts[#chunk.parts + 1] = bytes
  chunk.bytes = chunk.bytes + #bytes
end

--- Make room for `size` bytes: closes the open chunk when they no longer fit.
local function reserve(self, size)
  if size > M.RECORD_BYTES then
    error("a record of " .. size .. " bytes is too large for the journal")
  end
  local chunk = self.chunk
  if chunk and chunk.bytes + size + EVENT_ROOM > M.CHUNK_BYTES then
    if chunk.n == 0 then
      -- A chunk is named after an event: one that is only answers gets one.
      self.chunk.bytes = self.chunk.bytes - EVENT_ROOM
      self:event("step.completed",
        { step = self.seq + 1, name = chunk.name, duration_ms = clock.now() - chunk.began })
      self.chunk.bytes = self.chunk.bytes + EVENT_ROOM
    end
    self.full[#self.full + 1] = chunk
    self.chunk = nil
  end
  if not self.chunk then
    self.chunk = { first = self.seq + 1, n = 0, parts = {}, bytes = 0, events = {}, began = clock.now() }
  end
end

--- Add a numbered event. It is written with the next flush, at the latest after flush_seconds.
---@param type string
---@param data table at most 32 KiB
---@param call integer? id of the door call that it belongs to
---@return integer seq
function Writer:event(type, data, call)
  local record = { t = type, d = data, s = self.seq + 1, a = clock.now(), c = call }
  local bytes = M.pack(record)
  reserve(self, #bytes)
  if record.s ~= self.seq + 1 then -- reserve had to number one itself
    record.s = self.seq + 1
    bytes = M.pack(record)
  end
  self.seq = record.s
  append(self, bytes)
  local chunk = self.chunk
  chunk.n = chunk.n + 1
  chunk.events[chunk.n] = M.public_event(record, self.execution_id)
  self.added:signal()
  return record.s
end

--- Add the answer of a door call.
---@param call {id: integer, name: string, hash: string}
---@param ok boolean
---@param blob string door value
---@param at integer ms UTC, the run's logical time from here on
function Writer:answer(call, ok, blob, at)
  local bytes = M.pack {
    n = call.name, c = call.id, h = call.hash, o = ok, r = value.binary(blob), a = at,
  }
  reserve(self, #bytes)
  append(self, bytes)
  self.chunk.name = call.name
end

--- Add an operation that belongs into the commit of what was added last.
---@param op table
function Writer:with(op)
  self.more[#self.more + 1] = op
end

--- True when nothing waits to be written that could be (answers alone wait for an event).
---@return boolean
function Writer:clean()
  return #self.full == 0 and (self.chunk == nil or self.chunk.n == 0)
end

--- True when everything is in the store.
---@return boolean
function Writer:empty()
  return #self.full == 0 and self.chunk == nil
end

--- Take what is pending: the operations that write it, for a commit of the caller, who calls
--- `done` when it is in the store, `undo` when it is not.
---@return table[] ops, fun() done, fun() undo
function Writer:take()
  local chunks = self.full
  if self.chunk and self.chunk.n > 0 then
    chunks[#chunks + 1] = self.chunk
    self.chunk = nil
  end
  local more = self.more
  self.full, self.more = {}, {}
  local ops = {}
  for i, chunk in ipairs(chunks) do
    ops[i] = { op = "insert", coll = M.COLLECTION, doc = {
      _id = M.chunk_id(self.execution_id, chunk.first),
      token = self.token,
      n = chunk.n,
      v = M.VERSION,
      at = value.date(clock.now()),
      events = value.binary(table.concat(chunk.parts)),
    } }
  end
  for _, op in ipairs(more) do
    ops[#ops + 1] = op
  end
  return ops, function()
    for _, chunk in ipairs(chunks) do
      for _, event in ipairs(chunk.events) do
        self.written = event.seq
        self.publish(event)
      end
    end
  end, function()
    for i, chunk in ipairs(chunks) do
      table.insert(self.full, i, chunk)
    end
    for i, op in ipairs(more) do
      table.insert(self.more, i, op)
    end
  end
end

local function is_ours(self, ops)
  for _, op in ipairs(ops) do
    if op.op == "insert" and op.coll == M.COLLECTION then
      local doc = self.db:find_one(M.COLLECTION, { _id = op.doc._id })
      return doc ~= nil and doc.token == self.token and tostring(doc.events) == tostring(op.doc.events)
    end
  end
  return false
end

--- Commit operations of this run, all filtered by its token. Tries again while the store is not
--- to be reached; a commit whose answer was lost is looked up. Sets `lost` when the token is old.
---@param ops table[]
---@return table[]? results, table? err code "lost" when the run is someone else's
function Writer:commit(ops)
  local pause, doubt = 0.1, false
  while not self.lost do
    local results, err = self.db:commit(ops)
    if results then
      return results
    end
    if doubt and (err.code == "already_exists" or err.code == "conflict") and is_ours(self, ops) then
      return {}
    end
    if err.code == "conflict" or err.code == "already_exists" or err.code == "not_found" then
      self.lost = true -- not_found: the project is erased, or just being restored
    elseif err.retryable or err.code == "storage_full" then
      doubt = doubt or err.code == "outcome_unknown"
      local slept, stop = task.sleep(pause)
      if not slept and stop then
        return nil, stop
      end
      pause = math.min(pause * 2, 5)
    else
      return nil, err
    end
  end
  return nil, { code = "lost", message = "the execution was taken over", retryable = false }
end

--- The operation that makes a commit fail unless the run is still ours.
---@return table op
function Writer:guard()
  return {
    op = "update", coll = "kt_p_executions", must_match = true,
    filter = { _id = self.execution_id, token = self.token },
    update = { set = { token = self.token } },
  }
end

--- Write all that is pending; returns when it is in the store. One flush at a time. Only for the
--- run's own task and its flusher: a cancelled service must not hold a commit.
---@return boolean? ok, table? err
function Writer:flush()
  while self.busy do
    local ok, err = self.busy:wait()
    if not ok then
      return nil, err
    end
  end
  if self:clean() then
    return true
  end
  self.busy = task.event()
  local ops, done, undo = self:take()
  table.insert(ops, 1, self:guard())
  local results, err = self:commit(ops)
  if results then
    done()
  else
    undo()
  end
  local busy = self.busy
  self.busy = nil
  busy:signal()
  return results and true or nil, err
end

--- Loop of the task that writes events which nobody flushes: at most flush_seconds after they were
--- added. Ends with an error of the store, or when cancelled.
---@return table err
function Writer:flusher()
  while true do
    if self:clean() then
      local ok, err = self.added:wait()
      if not ok then
        return err
      end
    end
    local ok, err = task.sleep(self.flush_seconds)
    if ok then
      ok, err = self:flush()
    end
    if not ok then
      return err
    end
  end
end

return M
