--- Executions as the console shows them: found by a part of their id, listed, followed, their journal
--- record by record, and where they wait.

local clock = require "kt.clock"
local crypto = require "kt.crypto"
local follow = require "engine.follow"
local given = require "lib.given"
local journal = require "engine.journal"
local json = require "json"
local places = require "lib.places"
local projects = require "domain.project"
local states = require "engine.states"
local streams = require "http.streams"
local value = require "value"
local workers = require "console.workers"

local M = {}

--- Executions that a short id is looked for in, the newest first.
local LOOKED = 5000
--- Events of one answer; seconds that a follower waits for the first and for more of them.
local EVENTS, WAIT, GATHER = 200, 20, 0.05
local RECORDS = 200
local STATUS = { "created", "delayed", "queued", "running", "waiting", "completed", "failed", "cancelled", "timed_out" }

local function fault(code, message) return nil, { code = code, message = message } end

--- The execution that a whole id, or a part of one, names.
---@param project table
---@param text any an id, or the beginning or the end of its hexadecimal part
---@return string? id, table? project_or_err the project of a found one
function M.resolve(project, text)
  text = tostring(text or ""):gsub("^…", ""):lower()
  local number = places.project_number(text)
  if number then
    local owner, err = project, nil
    if number ~= project.number then owner, err = projects.by_number(number) end
    local doc
    if owner then doc, err = owner.db:find_one("kt_p_executions", { _id = text }, { projection = { "_id" } }) end
    if doc then return text, owner end
    if err and err.code ~= "not_found" then return nil, err end
    return fault("not_found", "there is no execution " .. text)
  end
  local part = text:match("^exec_%d+_(%x+)$") or text:match("^%x+$")
  if not part or #part < 3 then
    return fault("validation_failed", "'" .. text .. "' is no id: give a whole one, or at least 3 digits of its end or beginning")
  end
  local list, err = project.db:find("kt_p_executions", {}, { sort = { { "_id", -1 } }, limit = LOOKED, projection = { "_id" } })
  if not list then return nil, err end
  local found = {}
  for _, doc in ipairs(list) do
    local hex = doc._id:match("_(%x+)$")
    if hex and (hex:sub(-#part) == part or hex:sub(1, #part) == part) then found[#found + 1] = doc._id end
  end
  if #found == 1 then return found[1], project end
  if #found == 0 then return fault("not_found", "no execution of " .. project.id .. " begins or ends with " .. part) end
  local shown = {}
  for i = 1, math.min(#found, 5) do shown[i] = "…" .. found[i]:sub(-8) end
  return fault("conflict", ("%s is %d executions: %s%s"):format(part, #found, table.concat(shown, ", "), #found > 5 and ", …" or ""))
end

local function ms(date) return given(date) and date.ms or json.null end

---@param project table
---@param args {status: string?, limit: integer?}
---@return table? answer, table? err
function M.list(project, args)
  local wanted = given(args.status)
  if wanted then
    local known = false
    for _, status in ipairs(STATUS) do known = known or status == wanted end
    if not known then return fault("validation_failed", "'" .. tostring(wanted) .. "' is no status: " .. table.concat(STATUS, ", ")) end
  end
  local limit = math.max(1, math.min(tonumber(args.limit) or 20, 200))
  local list, err = project.db:find("kt_p_executions", { status = wanted }, { sort = { { "_id", -1 } }, limit = limit + 1,
    projection = { "status", "stop_reason", "agent_id", "created_at", "duration_ms", "attempt", "created_by", "error", "due_at" } })
  if not list then return nil, err end
  local rows = {}
  for i = 1, math.min(#list, limit) do
    local doc = list[i]
    local why = given(doc.error)
    rows[i] = { execution_id = doc._id, status = doc.status, agent_id = doc.agent_id, created_at = tostring(doc.created_at),
      age_ms = clock.now() - doc.created_at.ms, duration_ms = given(doc.duration_ms) or json.null, attempt = doc.attempt,
      error = type(why) == "table" and why.code or json.null, due_ms = ms(doc.due_at) }
  end
  return { rows = json.array(rows), more = #list > limit, now_ms = clock.now() }
end

--- Events after `since`; waits for the first when there is none yet. Yields.
---@param project table
---@param args {execution: string, since: integer?, live: boolean?}
function M.events(project, args)
  local id, owner = M.resolve(project, args.execution)
  if not id then return nil, owner end
  local since = tonumber(given(args.since)) or 0
  local follower, err = follow.open(owner.id, id, since)
  if not follower then return nil, err end
  streams.hold(follower)
  local events, ended, wait = {}, false, WAIT
  while #events < EVENTS do
    local event, failed = follower:next(wait)
    if not event then
      if failed and failed.code ~= "deadline_exceeded" then return nil, failed end
      ended = failed == nil and not streams.draining
      break
    end
    -- The status when it joined is told once, at the beginning.
    if event.seq or event.type ~= "execution.status" or since == 0 then
      events[#events + 1] = event
      wait = GATHER
    end
    since = event.seq or since
  end
  return { execution_id = id, events = json.array(events), since = since, ended = ended, last_seq = follower.last_seq }
end

local function row_of(record, chunk)
  if record.t then
    return { kind = "event", seq = record.s, name = record.t, call = record.c or json.null, at_ms = record.a,
      bytes = #(json.encode(record.d) or ""), token = chunk.token }
  end
  local blob = tostring(record.r)
  local row = { kind = "answer", call = record.c, name = record.n, hash = record.h, ok = record.o, at_ms = record.a,
    bytes = #blob, answer_hash = crypto.sha256(blob), token = chunk.token }
  if not record.o then
    local read, err = pcall(value.decode, blob)
    row.error = read and type(err) == "table" and err.code or json.null
  end
  return row
end

--- The last records of a journal. Yields.
---@param project table
---@param args {execution: string, limit: integer?}
function M.journal(project, args)
  local id, owner = M.resolve(project, args.execution)
  if not id then return nil, owner end
  local doc, err = owner.db:find_one("kt_p_executions", { _id = id }, { projection = { "events_deleted_at" } })
  if err then return nil, err end
  local gone = doc and journal.gone(doc)
  if gone then return nil, gone end
  local limit = math.max(1, math.min(tonumber(args.limit) or RECORDS, 1000))
  local rows, from, chunks_seen, total = {}, 0, 0, 0
  while true do
    local chunks
    chunks, err = owner.db:find(journal.COLLECTION, journal.chunks_of(id, from), { sort = { { "_id", 1 } }, limit = 16 })
    if not chunks then return nil, err end
    for _, chunk in ipairs(chunks) do
      local records, bad = journal.unpack(chunk.events)
      if not records then return nil, bad end
      chunks_seen = chunks_seen + 1
      for _, record in ipairs(records) do
        total = total + 1
        rows[#rows + 1] = row_of(record, chunk)
      end
      from = journal.first_seq(chunk._id) + chunk.n
    end
    while #rows > limit do table.remove(rows, 1) end
    if #chunks < 16 then break end
  end
  return { execution_id = id, rows = json.array(rows), chunks = chunks_seen, records = total }
end

-- The last answers of a journal, for a run that has no coroutine now.
local function from_journal(owner, id)
  local recorded, err = journal.load(owner.db, id)
  if not recorded then return nil, err end
  local answers, list = recorded.answers, {}
  for i = math.max(1, #answers - 4), #answers do
    list[#list + 1] = { call = answers[i].c, name = answers[i].n, ok = answers[i].o, at_ms = answers[i].a }
  end
  return { answers = json.array(list), answered = #answers, last_seq = recorded.last_seq }
end

--- Where a run is: from the worker that runs it, else from its document and journal. Yields.
---@param project table
---@param args {execution: string}
function M.stack(project, args)
  local id, owner = M.resolve(project, args.execution)
  if not id then return nil, owner end
  local told, err = workers.all("stack", { execution_id = id })
  if not told then return nil, err end
  local silent = {}
  for _, one in ipairs(told) do
    if one.answer and one.answer.found then
      one.answer.execution_id, one.answer.live = id, true
      return one.answer
    elseif not one.answer then
      silent[#silent + 1] = ("worker %d (%s)"):format(one.row.slot, one.why)
    end
  end
  local doc
  doc, err = owner.db:find_one("kt_p_executions", { _id = id },
    { projection = { "status", "stop_reason", "due_at", "workflow", "error", "attempt", "events_deleted_at" } })
  if not doc then return nil, err or { code = "not_found", message = "there is no execution " .. id } end
  local gone = journal.gone(doc)
  if gone then return nil, gone end
  local answer
  answer, err = from_journal(owner, id)
  if not answer then return nil, err end
  local why = given(doc.error)
  answer.execution_id, answer.live, answer.status, answer.workflow = id, false, doc.status, doc.workflow
  answer.ended = states.FINAL[doc.status] or false
  answer.due_at = given(doc.due_at) and tostring(doc.due_at) or json.null
  answer.error, answer.silent = type(why) == "table" and why or json.null, json.array(silent)
  return answer
end

--- Ids for completion, the newest first.
---@param project table
---@return string[]? ids, table? err
function M.ids(project)
  local list, err = project.db:find("kt_p_executions", {}, { sort = { { "_id", -1 } }, limit = 100, projection = { "_id" } })
  if not list then return nil, err end
  local ids = {}
  for i, doc in ipairs(list) do ids[i] = doc._id end
  return ids
end

return M
