-- Idempotency-Key on any POST: the first answer is kept 24 h a principal, method and path, and
-- given again to the same body.
--
-- The row is written in the commit of the change itself (`ops` goes to domain/commit), so after a
-- crash either both are there or neither, and no row says "still running" for ever. That a first
-- request is still running is known inside the worker; between workers the second commit collides
-- with the row of the first.

local clock = require "kt.clock"
local crypto = require "kt.crypto"
local json = require "json"
local log = require "kt.log"
local problem = require "http.problem"
local task = require "kt.task"
local value = require "value"

local M = {}

local keep_ms = 24 * 3600 * 1000
local sweep_ms = 3600 * 1000
local running = {} -- row id -> true, in this worker
local swept = {}   -- database name -> ms of the last sweep of expired rows

---Check the header of a POST; notes the key in the context.
---@param ctx kontor.Context
---@param errors kontor.FieldError[] appended to
function M.check_header(ctx, errors)
  local key = ctx.req.headers["idempotency-key"]
  if not key or ctx.route.method ~= "POST" then return end
  if #key < 1 or #key > 200 or key:find("[^!-~]") then
    errors[#errors + 1] = {header = "Idempotency-Key", code = "format",
      message = "must be 1 to 200 visible ASCII characters"}
    return
  end
  ctx.idem = {key = key}
end

local function row_of(ctx)
  local idem = ctx.idem
  local path = ctx.req.path
  idem.id = crypto.sha256(table.concat({ctx.principal.id, ctx.route.method, path, idem.key}, "\n"))
  -- The body as sent, not as parsed: cheap, and a client repeats its bytes.
  idem.body_hash = crypto.sha256(ctx.body_text or "")
  idem.coll = ctx.project and "kt_p_idempotency" or "kt_m_idempotency"
end

local function row_for(ctx, result)
  local idem, now = ctx.idem, clock.now()
  local headers = {}
  for _, name in ipairs{"Location", "ETag", "Content-Type", "Retry-After"} do
    if result.headers[name] then headers[#headers + 1] = json.array{name, result.headers[name]} end
  end
  return {_id = idem.id, body_hash = idem.body_hash,
    status = result.status, headers = json.array(headers), body = result.body or "",
    created_at = value.date(now), expires_at = value.date(now + keep_ms)}
end

---The op that keeps an answer; for the commit of the change.
---@param ctx kontor.Context
---@param result kontor.Answer
---@return table[] ops none without a key
function M.ops(ctx, result)
  local idem = ctx.idem
  if not idem or idem.written then return {} end
  return {{op = "insert", coll = idem.coll, doc = row_for(ctx, result)}}
end

---The change is committed, and the row with it.
function M.committed(ctx)
  if ctx.idem then ctx.idem.written = true end
end

---Replace the kept answer: a synchronous execution was kept as accepted, and has now ended.
---@param ctx kontor.Context
---@param db table
---@param result kontor.Answer
---@return true|nil
---@return kontor.Error|nil
function M.update(ctx, db, result)
  if not ctx.idem then return true end
  local op = row_for(ctx, result)
  local done, err = db:update_one(ctx.idem.coll, {_id = ctx.idem.id},
    {set = {status = op.status, headers = op.headers, body = op.body}})
  if not done then return nil, err end
  return true
end

local function replay(ctx, row)
  if row.body_hash ~= ctx.idem.body_hash then
    return nil, problem.err("idempotency_mismatch", "This Idempotency-Key was used with another body.",
      {errors = {{header = "Idempotency-Key", code = "duplicate", message = "was used with another body"}}})
  end
  local headers = {["Idempotency-Replayed"] = "true"}
  for _, h in ipairs(row.headers) do headers[h[1]] = h[2] end
  return {status = row.status, headers = headers, body = row.body}
end

local function in_progress()
  return nil, problem.err("idempotency_in_progress", nil, {retry_after = 1})
end

-- Answers that a further try could better are not kept.
local function lasting(status) return status < 500 and status ~= 429 and status ~= 408 end

local function keep(ctx, db, result)
  if ctx.idem.written or not lasting(result.status) then return end
  local _, err = db:commit(M.ops(ctx, result))
  return err
end

local function sweep(db, coll, now)
  if now - (swept[db.name] or 0) < sweep_ms then return end
  swept[db.name] = now
  local ok, err = db:ensure_index(coll, {name = "expires", keys = {{"expires_at", 1}}})
  if ok then ok, err = db:delete_many(coll, {{"expires_at", "lte", value.date(now)}}) end
  -- Rows that stay are a matter of space alone: whoever reads one looks at its time.
  if not ok then log.warn("idempotency.sweep", {msg = db.name .. ": " .. tostring(err.message)}) end
end

---Run the handler under the key of the request, if it has one.
---@param ctx kontor.Context
---@param app table
---@param handler function
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.around(ctx, app, handler)
  if not ctx.idem then return handler(ctx) end
  row_of(ctx)
  local idem = ctx.idem
  local db = ctx.project and ctx.project.db or app.master
  if running[idem.id] then return in_progress() end
  running[idem.id] = true
  local function run()
    local now = clock.now()
    local row, err = db:find_one(idem.coll, {_id = idem.id})
    if err then return nil, err end
    if row and row.expires_at > value.date(now) then return replay(ctx, row) end
    if row then
      local _, failed = db:delete_one(idem.coll, {_id = idem.id, expires_at = row.expires_at})
      if failed then return nil, failed end
    end
    sweep(db, idem.coll, now)
    local result
    result, err = handler(ctx)
    if not result and err and err.code == "already_exists" and err.coll == idem.coll then
      return in_progress() -- another worker was first
    end
    local kept = result
    if not result then
      local status, headers, body = problem.answer(err, ctx.req.id)
      kept = {status = status, headers = headers, body = body}
    end
    if kept.streamed then return result, err end
    local failed = keep(ctx, db, kept)
    if failed then return nil, failed.code == "already_exists" and problem.err("idempotency_in_progress") or failed end
    return result, err
  end
  -- A closer, so that a request whose client went away does not leave its key running.
  task.defer(function() running[idem.id] = nil end)
  return run()
end


return M
