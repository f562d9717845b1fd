-- Executions of a project: start, look, follow, cancel. What they do is the engine's.

local answer = require "http.answer"
local dataset = require "domain.dataset"
local days = require "http.days"
local dispatch = require "http.dispatch"
local engine = require "engine"
local execution = require "domain.execution"
local follow = require "engine.follow"
local ids = require "domain.ids"
local idempotency = require "http.idempotency"
local instance = require "domain.instance"
local journal = require "engine.journal"
local json = require "json"
local lists = require "domain.lists"
local principal = require "http.principal"
local problem = require "http.problem"
local project = require "domain.project"
local report = require "domain.report"
local schema = require "http.schema"
local sse = require "http.sse"
local streams = require "http.streams"
local T = require "http.types"
local value = require "value"
local ws = require "http.ws"

local coll = "kt_p_executions"
local base = "/api/v1/projects/{project_id}/executions"
local one = base .. "/{execution_id}"
local ty = execution.execution
local in_project = {project_id = T.project_id}
local params = {project_id = T.project_id, execution_id = T.execution_id}

local function location(project_id, id) return ("/api/v1/projects/%s/executions/%s"):format(project_id, id) end

-- 202: the work goes on.
local function going_on(ctx, text, id)
  return answer.text(202, text, {Location = location(ctx.project.id, id), ["Retry-After"] = "1"})
end

local function read_text(ctx, id)
  local text, err = ctx.project.db:find_one_json(coll, {_id = id}, schema.view(ty))
  if not text then return nil, err or problem.err("not_found") end
  return text
end

-- What the body names must be there; the instance.
local function check_body(ctx)
  local body, db = ctx.body, ctx.project.db
  local doc, err = db:find_one(instance.kind.coll, {_id = body.instance_id})
  if err then return nil, err end
  if not doc then return nil, problem.field({pointer = "/instance_id"}, "not_found", "does not exist") end
  if doc.archived then return nil, problem.err("archived", "The agent instance is archived.") end
  local id = body.input_data.dataset_id
  if id and id ~= json.null then
    local ok
    ok, err = dataset.check_usable(db, id, "/input_data/dataset_id")
    if not ok then return nil, err end
  end
  return doc
end

local function create(ctx)
  local named, err = check_body(ctx)
  if not named then return nil, err end
  -- The engine puts these ops into the commit that accepts the run.
  local function ops(doc) return idempotency.ops(ctx, going_on(ctx, json.encode(doc), doc.execution_id)) end
  local doc
  doc, err = engine.execution.accept(ctx.project, ctx.principal, ctx.body,
    {req = ctx.req, instance = named, ops = ctx.idem and ops or nil})
  if not doc then return nil, err end
  idempotency.committed(ctx)
  if not execution.ended[doc.status] or ctx.body.async_execution then
    return going_on(ctx, json.encode(doc), doc.execution_id)
  end
  local done = answer.text(200, json.encode(doc), {Location = location(ctx.project.id, doc.execution_id)})
  local kept
  kept, err = idempotency.update(ctx, ctx.project.db, done)
  if not kept then return nil, err end
  return done
end

local function list(ctx)
  local q, filter = ctx.query, {}
  filter.status, filter.instance_id, filter.agent_id = q.status, q.instance_id, q.agent_id
  local from, before = days.window(q)
  if not from then return nil, before end
  filter[#filter + 1] = {"created_at", "gte", value.date(from)}
  filter[#filter + 1] = {"created_at", "lt", value.date(before)}
  return lists.page(ctx, {db = ctx.project.db, coll = coll, filter = filter, type = ty})
end

-- The result of a run that has ended; of one that goes on, the execution as 202.
local function ended_or_going_on(ctx)
  local id, db = ctx.params.execution_id, ctx.project.db
  local doc, err = db:find_one(coll, {_id = id}, {projection = {"status", "token"}})
  if not doc then return nil, nil, err or problem.err("not_found") end
  if execution.ended[doc.status] then return ("%s:%s"):format(id, tostring(doc.token)) end
  local text
  text, err = read_text(ctx, id)
  if not text then return nil, nil, err end
  return nil, going_on(ctx, text, id)
end

local function get_result(ctx)
  local result_id, later, err = ended_or_going_on(ctx)
  if not result_id then return later, err end
  local text
  text, err = ctx.project.db:find_one_json("kt_p_results", {_id = result_id}, schema.view(execution.result))
  if not text then return nil, err or problem.err("internal", "an ended run has no result: " .. result_id) end
  return answer.text(200, text)
end

local function get_report(ctx)
  local result_id, later, err = ended_or_going_on(ctx)
  if not result_id then return later, err end
  local bytes, media, hash = report.bytes(ctx.project.db, result_id)
  if not bytes then return nil, media end
  return answer.text(200, bytes, {["Content-Type"] = media, ETag = '"' .. hash .. '"'})
end

local function get_findings(ctx)
  local result_id, later, err = ended_or_going_on(ctx)
  if not result_id then return later, err end
  return report.findings(ctx, result_id)
end

local function events_since(ctx)
  local last = ctx.req.headers["last-event-id"]
  if last then
    if not last:find("^%d+$") or #last > 15 then
      return nil, problem.err("validation_failed", nil, {errors = {{header = "Last-Event-ID", code = "format",
        message = "must be the number of an event"}}})
    end
    return tonumber(last), nil, true
  end
  return ctx.query.since
end

-- The numbered events there are, as a list.
local function event_list(ctx, since)
  local events, err = follow.list(ctx.project.id, ctx.params.execution_id, since, ctx.query.limit + 1)
  if not events then return nil, err end
  local more = #events > ctx.query.limit
  if more then events[#events] = nil end
  local doc = {data = json.array(events), page = json.ordered({
    next_cursor = more and tostring(events[#events].seq) or json.null, limit = ctx.query.limit}, {"next_cursor", "limit"})}
  return answer.doc(200, json.ordered(doc, {"data", "page"}))
end

local function get_events(ctx)
  local id = ctx.params.execution_id
  local doc, err = ctx.project.db:find_one(coll, {_id = id}, {projection = {"status", "last_seq", "events_deleted_at"}})
  if not doc then return nil, err or problem.err("not_found") end
  local since, resumed
  since, err, resumed = events_since(ctx)
  if err then return nil, err end
  local json_list = ctx.media == "application/json"
  -- An EventSource comes back for ever unless it is told that there is nothing more.
  if not json_list and resumed and execution.ended[doc.status] and since >= doc.last_seq then return {status = 204, headers = {}} end
  local gone = journal.gone(doc)
  if gone then return nil, gone end
  if json_list then return event_list(ctx, since) end
  if ctx.req.method == "HEAD" then return {status = 200, headers = {["Content-Type"] = sse.media_type}} end
  local follower
  follower, err = follow.open(ctx.project.id, id, since)
  if not follower then return nil, err end
  streams.hold(follower)
  ctx.req:streaming()
  sse.stream(ctx.req, follower, dispatch.still(ctx))
  return answer.streamed
end

local function cancel(ctx)
  local reason = ctx.body.reason ~= json.null and ctx.body.reason or nil
  local doc, err = engine.execution.cancel(ctx.project, ctx.principal, ctx.params.execution_id, reason, {req = ctx.req})
  if not doc then return nil, err end
  if execution.ended[doc.status] then return answer.doc(200, doc) end
  return going_on(ctx, json.encode(doc), doc.execution_id)
end

local function socket(ctx)
  local id = ctx.params.execution_id
  local found, err = project.by_number(ids.project_number(id))
  if not found then return nil, err end
  -- The path does not name the project, so its scope is checked here.
  if not principal.sees(ctx.principal, found.id) then return nil, problem.err("not_found") end
  local counted
  counted, err = dispatch.limit(ctx, found)
  if not counted then return nil, err end
  local follower
  follower, err = follow.open(found.id, id, ctx.query.since)
  if not follower then return nil, err end
  streams.hold(follower)
  local conn
  conn, err = ctx.req:upgrade{max_frame = 4096}
  if not conn then
    if err.code == "upgrade_required" then
      err.headers = {Upgrade = "websocket", ["Sec-WebSocket-Version"] = "13"}
    end
    return nil, err
  end
  ctx.req:streaming()
  ws.stream(conn, follower, {execution_id = id, status = follower.status, last_seq = follower.last_seq, since = ctx.query.since}, dispatch.still(ctx))
  return {streamed = true, status = 101}
end

local since = {"since", T.int(0), default = 0, doc = "number of the last event one has"}
local running = {type = ty, doc = "Goes on", headers = {"Location", "Retry-After"}}

return {
  {method = "POST", path = base, operation_id = "createExecution", role = "operator", tag = "executions",
    summary = "Start an execution", params = in_project, body = execution.create,
    example = {instance_id = "inst_legacy_erp-exception-management", input_data = {prompt = "Which exceptions are there?"}},
    answers = {[200] = {type = ty, doc = "Ended (async_execution false)"}, [202] = running}, handler = create},
  {method = "GET", path = base, operation_id = "listExecutions", role = "viewer", tag = "executions",
    summary = "List executions", params = in_project,
    query = lists.query{{"status", T.enum(execution.statuses)}, {"instance_id", T.instance_id}, {"agent_id", T.slug},
      days.query[1], days.query[2]},
    answers = {[200] = {list = ty, doc = "A page, newest first"}}, handler = list},
  {method = "GET", path = one, operation_id = "getExecution", role = "viewer", tag = "executions",
    summary = "Get an execution", params = params, answers = {[200] = {type = ty}},
    handler = function(ctx)
      -- While it runs its last_seq is the journal's.
      local doc, err = engine.execution.get(ctx.project, ctx.params.execution_id)
      return doc and answer.doc(200, doc), err
    end},
  {method = "GET", path = one .. "/result", operation_id = "getResult", role = "viewer", tag = "executions",
    summary = "Get the result", params = params, answers = {[200] = {type = execution.result}, [202] = running},
    handler = get_result},
  {method = "GET", path = one .. "/report", operation_id = "getReport", role = "viewer", tag = "executions",
    summary = "Get the report", params = params,
    answers = {[200] = {doc = "The report", media = {"application/json"}}, [202] = running}, handler = get_report},
  {method = "GET", path = one .. "/findings", operation_id = "listExecutionFindings", role = "viewer", tag = "executions",
    summary = "List the findings of a run", params = params,
    query = lists.query{{"rule_id", T.str{max = 64}}, {"category", T.str{max = 64}},
      {"severity", T.enum{"critical", "high", "medium", "low"}}, {"reason", T.str{max = 64}},
      {"sort", T.enum{"severity", "impact"}, default = "severity"}},
    answers = {[200] = {list = execution.finding, doc = "A page"}, [202] = running}, handler = get_findings},
  {method = "GET", path = one .. "/events", operation_id = "streamEvents", role = "viewer", tag = "executions",
    summary = "Follow an execution", params = params, produces = {"text/event-stream", "application/json"},
    query = {since, {"limit", T.int(1, 500), default = 50, doc = "events of a JSON list"}},
    headers = {{"Last-Event-ID", "wins over since"}},
    answers = {[200] = {list = execution.event, doc = "Events", media = {"text/event-stream"}},
      [204] = {doc = "The run has ended and all is read"}}, handler = get_events},
  {method = "POST", path = one .. "/cancel", operation_id = "cancelExecution", role = "operator", tag = "executions",
    summary = "Cancel an execution", params = params, body = execution.cancel, example = {reason = "not needed any more"},
    answers = {[200] = {type = ty, doc = "Was cancelled already"}, [202] = running}, handler = cancel},
  {method = "GET", path = "/ws/execution/{execution_id}", operation_id = "followExecution", role = "viewer", tag = "executions",
    summary = "Follow an execution over WebSocket", params = {execution_id = params.execution_id},
    query = {since}, answers = {[101] = {doc = "Switching protocols"}}, handler = socket},
}
