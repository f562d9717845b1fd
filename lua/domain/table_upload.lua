-- PUT …/tables/{name}: the bytes of a table into a dataset, in one request or in several.
--
-- Several: the fields of draft-ietf-httpbis-resumable-upload, with the table itself as the upload's
-- resource and PUT in place of PATCH (docs/datasets.md). The bytes are appended to a file as they
-- come; with the last of them the file is read as a table and entered in one commit.

local answer = require "http.answer"
local crypto = require "kt.crypto"
local dataset = require "domain.dataset"
local ingest = require "kt.ingest"
local json = require "json"
local log = require "kt.log"
local parts = require "kt.part"
local problem = require "http.problem"
local quota = require "domain.quota"
local schema = require "http.schema"
local storage = require "domain.storage"
local task = require "kt.task"
local upload = require "domain.upload"

local M = {}

local step = 16 * 1048576 -- bytes reserved at once
local attempts = 10
local take_seconds, take_pause = 5, 0.01
local max_uploads = 200 -- of a dataset at the same time
local formats = {["text/csv"] = "csv", ["application/x-ndjson"] = "ndjson"}

-- Requests of this worker that append just now: path of the file -> their task.
local streaming = {}

local function fault(header, code, message)
  return {errors = {{header = header, code = code, message = message}}}
end

local function refuse(header, code, message) return nil, problem.err("validation_failed", nil, fault(header, code, message)) end

local function is_gzip(ctx)
  local encoding = (ctx.req.headers["content-encoding"] or "identity"):lower()
  if encoding == "gzip" or encoding == "x-gzip" then return true end
  if encoding == "identity" then return false end
  return nil, problem.err("unsupported_media_type", "Content-Encoding must be gzip or identity.")
end

-- sha-256 of a digest field (RFC 9530) in hex; nil when it has none.
local function digest_of(headers, name)
  local given = headers[name:lower()]
  if not given then return nil end
  local text = given:match("sha%-256=:([A-Za-z0-9+/]+=*):")
  if not text then
    if given:find("sha-256", 1, true) then return refuse(name, "format", "must be sha-256=:BASE64:") end
    return nil -- other algorithms may be ignored
  end
  local bytes = crypto.base64url_decode((text:gsub("=", ""):gsub("+", "-"):gsub("/", "_")))
  if not bytes or #bytes ~= 32 then return refuse(name, "format", "must be sha-256=:BASE64:") end
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function number_of(headers, name)
  local given = headers[name:lower()]
  if not given then return nil end
  if not given:find("^%d+$") or #given > 15 then return refuse(name, "format", "must be a number of bytes") end
  return tonumber(given)
end

---@class kontor.Wanted what the request says about itself
---@field gzip boolean
---@field format "csv"|"ndjson"
---@field complete? boolean nil: not a resumable upload
---@field offset? integer nil: from the beginning, whatever was there
---@field length? integer of the whole
---@field content? string sha256 of this request's bytes
---@field whole? string sha256 of all bytes

---@return kontor.Wanted|nil
---@return kontor.Error|nil
local function wanted(ctx)
  local headers, want = ctx.req.headers, {format = formats[ctx.upload_media]}
  local err
  want.gzip, err = is_gzip(ctx)
  if err then return nil, err end
  local complete = headers["upload-complete"]
  if complete and complete ~= "?0" and complete ~= "?1" then return refuse("Upload-Complete", "format", "must be ?0 or ?1") end
  if complete then want.complete = complete == "?1" end
  want.offset, err = number_of(headers, "Upload-Offset")
  if err then return nil, err end
  if want.offset and not complete then return refuse("Upload-Complete", "required", "goes with Upload-Offset") end
  want.length, err = number_of(headers, "Upload-Length")
  if err then return nil, err end
  want.content, err = digest_of(headers, "Content-Digest")
  if err then return nil, err end
  want.whole, err = digest_of(headers, "Repr-Digest")
  if err then return nil, err end
  return want
end

-- Bytes that are left of the quota; `mine` of what is used are the upload's own.
local function room(project, mine)
  local usage, err = storage.usage(project.db)
  if not usage then return nil, err end
  local limit = project.doc.quotas.storage_bytes
  local left = limit - usage.storage_bytes + mine
  if left <= 0 then return nil, quota.exceeded("storage_bytes", usage.storage_bytes, limit) end
  return left
end

local function over(project)
  local usage, err = storage.usage(project.db)
  if not usage then return err end
  return quota.exceeded("storage_bytes", usage.storage_bytes, project.doc.quotas.storage_bytes, "it does not fit")
end

-- The checked table, with its bytes in the file `path`, into its dataset. `row` is that of the upload;
-- it has the hash before there is a blob of it.
local function enter(ctx, row, path, info)
  local project, db = ctx.project, ctx.project.db
  local entry = {name = ctx.params.name, format = row.format or formats[ctx.upload_media], rows = info.rows, bytes = info.bytes,
    sha256 = info.sha256, columns = json.array(info.columns), duplicates = json.null, -- known when the rows are mapped
    rejected = info.rejected, errors = json.array(info.errors)}
  for _ = 1, attempts do
    local before, blob, left, done
    local err
    before, err = storage.usage(db)
    if not before then return nil, err end
    blob, err = db:blob_put{path = path}
    if not blob then return nil, err end
    -- Counted with all that others put at the same time: who sees too much takes his own back.
    left, err = room(project, row.reserved + 1)
    if not left then return nil, err end
    done, err = dataset.put_table(ctx, entry, {
      {op = "delete", coll = storage.uploads, filter = {_id = row._id, reserved = row.reserved}, must_match = true},
      storage.op({storage_bytes = -row.reserved, added = 1}, {removed = before.removed}),
    })
    if done then return done end
    if not storage.refused(err) then return nil, err end
  end
  return nil, problem.err("conflict")
end

-- One request, one table: checked while it comes.
local function put_whole(ctx, want)
  local project = ctx.project
  local left, err = room(project, 0)
  if not left then return nil, err end
  local folder
  folder, err = upload.folder(project)
  if not folder then return nil, err end
  local row = {_id = "put:" .. crypto.uuid7(), dataset_id = ctx.params.dataset_id, reserved = 0}
  local path = folder .. "/" .. row._id:gsub(":", "-")
  local sink
  sink, err = ingest.open{format = want.format, gzip = want.gzip, path = path, max_bytes = left}
  if not sink then return nil, err end
  -- Also when the client goes away in the middle.
  task.defer(function()
    sink:abort()
    os.remove(path)
    if row.sha256 then upload.clear(project, {_id = row._id}) end
  end)
  local hash = (want.content or want.whole) and crypto.hash_new()
  local chunk, ok, info
  repeat
    chunk, err = ctx.req:read()
    if err then return nil, err end
    if chunk then
      if hash then hash:update(chunk) end
      ok, err = sink:write(chunk)
      if not ok then return nil, err.code == "body_too_large" and over(project) or err end
    end
  until not chunk
  local got = hash and hash:hex()
  if want.content and want.content ~= got then return refuse("Content-Digest", "invalid", "the bytes that came are others") end
  if want.whole and want.whole ~= got then return refuse("Repr-Digest", "invalid", "the bytes that came are others") end
  info, err = sink:finish()
  if not info then return nil, err end
  row.sha256 = info.sha256
  ok, err = project.db:commit{upload.insert(row)}
  if not ok then return nil, err end
  return enter(ctx, row, path, info)
end

-- The file of a resumable upload, for this request alone: the newest one goes on, an older one that is
-- still receiving (its client often is gone, and only the network does not say so) ends.
local function take(path, hash)
  for _ = 1, take_seconds / take_pause do
    local part, err = parts.open(path, hash)
    if part then return part end
    if err.code ~= "conflict" then return nil, err end
    if streaming[path] then streaming[path]:cancel() end
    local ok
    ok, err = task.sleep(take_pause)
    if not ok then return nil, err end
  end
  return nil, problem.err("conflict", "Another request is writing this upload.", {retryable = true, retry_after = 1})
end

local function state_headers(size, complete)
  return {["Upload-Offset"] = ("%.0f"):format(size), ["Upload-Complete"] = complete and "?1" or "?0", ["Cache-Control"] = "no-store"}
end

local function mismatch(size)
  return nil, problem.err("conflict", ("The upload goes on at %.0f."):format(size),
    {retryable = false, headers = state_headers(size)})
end

-- The row of the upload that goes on, or of a new one.
local function begin(ctx, want, id, part)
  local db, offset = ctx.project.db, want.offset
  local row, err = db:find_one(storage.uploads, {_id = id})
  if err then return nil, err end
  if row and offset == nil then
    local ok
    ok, err = db:update_one(storage.uploads, {_id = id}, {set = {format = want.format, gzip = want.gzip}, unset = {"sha256"}})
    if not ok then return nil, err end
    row.format, row.gzip, row.sha256 = want.format, want.gzip, nil
  end
  if (not row or offset == nil) and part:size() > 0 then
    local ok
    ok, err = part:cut(0)
    if not ok then return nil, err end
  end
  if (offset or 0) ~= part:size() then return mismatch(part:size()) end
  if row then
    if row.format ~= want.format then return refuse("Content-Type", "immutable", "must be as at the upload's beginning") end
    if row.gzip ~= want.gzip then return refuse("Content-Encoding", "immutable", "must be as at the upload's beginning") end
    return row
  end
  local n
  n, err = db:count(storage.uploads, {dataset_id = ctx.params.dataset_id}, max_uploads)
  if not n then return nil, err end
  if n >= max_uploads then return nil, problem.err("concurrency_limited", "A dataset has at most " .. max_uploads .. " uploads at once.") end
  row = {_id = id, dataset_id = ctx.params.dataset_id, name = ctx.params.name, format = want.format, gzip = want.gzip, reserved = 0}
  local done
  -- An upload that begins while its dataset is sealed would not be seen by the sealing.
  done, err = db:commit{upload.insert(row), dataset.still_open(ctx.params.dataset_id)}
  if not done then return nil, err.code == "conflict" and problem.err("dataset_sealed") or err end
  return row
end

-- The request's bytes to the end of the file. Reserves before it writes.
local function append(ctx, row, part)
  local announced = tonumber(ctx.req.headers["content-length"])
  while true do
    local chunk, err = ctx.req:read()
    if err then return nil, err end
    if not chunk then return true end
    local lacking = part:size() + #chunk - row.reserved
    if lacking > 0 then
      local got
      got, err = storage.reserve(ctx.project, row._id, lacking, math.max(lacking, math.min(step, announced or step)))
      if not got then return nil, err end
      row.reserved = row.reserved + got
    end
    local ok
    ok, err = part:write(chunk)
    if not ok then return nil, err end
    if announced then announced = announced - #chunk end
  end
end

-- What came is whole: read it as a table and enter it.
local function complete(ctx, want, row, part, path)
  local project = ctx.project
  local left, err = room(project, row.reserved)
  if not left then return nil, err end
  local decoded = row.gzip and path .. ".decoded" or nil
  local sink
  sink, err = ingest.open{format = row.format, gzip = row.gzip, path = decoded, max_bytes = left}
  if not sink then return nil, err end
  task.defer(function()
    sink:abort()
    if decoded then os.remove(decoded) end
  end)
  local ok, info
  ok, err = sink:feed(path)
  if ok then info, err = sink:finish() end
  if not info then return nil, err.code == "body_too_large" and over(project) or err end
  if want.whole and want.whole ~= info.fed then return refuse("Repr-Digest", "invalid", "the bytes that came are others") end
  row.sha256 = info.sha256
  ok, err = project.db:update_one(storage.uploads, {_id = row._id}, {set = {sha256 = info.sha256}})
  if not ok then return nil, err end
  local done
  done, err = enter(ctx, row, decoded or path, info)
  if not done then return nil, err end
  ok, err = part:remove()
  if not ok then return nil, err end
  for name, v in pairs(state_headers(part:size(), true)) do done.headers[name] = v end
  return done
end

-- Take an upload back whose file is open: its bytes go at once, a full disk needs them.
local function give_up(project, row, part)
  local ok, err = part:cut(0)
  if not ok then return nil, err end
  return upload.drop(project, row)
end

-- After these nothing is left to go on with.
local hopeless = {quota_exceeded = true, data_rejected = true, validation_failed = true, storage_full = true,
  dataset_sealed = true, not_found = true}

local function finish(ctx, want, row, part, path)
  local done, err = complete(ctx, want, row, part, path)
  if not done and hopeless[err.code] then
    local ok, failed = give_up(ctx.project, row, part)
    if not ok then err = failed end
  end
  part:close()
  return done, err
end

-- After a request that did not end the upload: what is there stays, and no more stays reserved. The next
-- request waits for it.
local function leave(project, part, row)
  while part:busy() do task.sleep(take_pause) end
  if row then
    local ok, err = upload.settle(project, row, part:size())
    if not ok and err.code ~= "conflict" then
      log.warn("upload.settle", {project_id = project.id, msg = err.code .. ": " .. tostring(err.message)})
    end
  elseif part:size() == 0 then
    part:remove() -- made by this request, which was refused
  end
  part:close()
end

local function put_part(ctx, want)
  local project = ctx.project
  local id = upload.id(ctx.params.dataset_id, ctx.params.name)
  local folder, err = upload.folder(project)
  if not folder then return nil, err end
  local path = upload.path(folder, id)
  local part
  part, err = take(path, want.content ~= nil)
  if not part then return nil, err end
  local row, handed_over
  task.defer(function()
    if handed_over then return end
    task.detach(leave, project, part, row)
  end)
  row, err = begin(ctx, want, id, part)
  if not row then return nil, err end
  local from = part:size()
  local ok
  local receiving = task.spawn(append, ctx, row, part)
  streaming[path] = receiving
  task.defer(function() if streaming[path] == receiving then streaming[path] = nil end end)
  ok, err = receiving:join()
  streaming[path] = nil
  if not ok then
    if err.code == "cancelled" then return nil, problem.err("conflict", "A newer request goes on with this upload.") end
    if not hopeless[err.code] then return nil, err end
    local gone, failed = give_up(project, row, part)
    return nil, gone and err or failed
  end
  local state
  state, err = part:sync()
  if not state then return nil, err end
  if want.content and want.content ~= state.sha256 then
    ok, err = part:cut(from)
    if not ok then return nil, err end
    return refuse("Content-Digest", "invalid", "the bytes that came are others; they are dropped")
  end
  if want.complete and want.length and want.length ~= state.size then
    return refuse("Upload-Length", "invalid", ("the upload has %.0f bytes"):format(state.size))
  end
  if not want.complete then
    ok, err = upload.settle(project, row, state.size)
    row = nil
    return ok and {status = 204, headers = state_headers(state.size)}, err
  end
  handed_over = true
  -- From here on it is the service's: a client that goes away changes nothing any more.
  return task.detach(finish, ctx, want, row, part, path):join()
end

---PUT …/tables/{name}.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.put(ctx)
  local want, err = wanted(ctx)
  if not want then return nil, err end
  -- Before the bytes come: a sealed dataset is not worth an upload.
  local doc
  doc, err = dataset.find_open(ctx)
  if not doc then return nil, err end
  if want.length then
    local left
    left, err = room(ctx.project, 0)
    if not left then return nil, err end
    if want.complete ~= nil and not want.offset and want.length > left then return nil, over(ctx.project) end
  end
  if want.complete == nil then return put_whole(ctx, want) end
  return put_part(ctx, want)
end

-- The state of a resumable upload; nil when there is none.
local function state_of(ctx)
  local id = upload.id(ctx.params.dataset_id, ctx.params.name)
  local row, err = ctx.project.db:find_one(storage.uploads, {_id = id})
  if not row then return nil, err end
  local folder
  folder, err = upload.folder(ctx.project)
  if not folder then return nil, err end
  local part
  -- So that the number holds until the client goes on.
  part, err = take(upload.path(folder, id))
  if not part then return nil, err end
  local size = part:size()
  part:close()
  return size, nil, row
end

---GET and HEAD …/tables/{name}: the table, and how far its upload is.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.get(ctx)
  local doc, err = ctx.project.db:find_one("kt_p_datasets", {_id = ctx.params.dataset_id})
  if not doc then return nil, err or problem.err("not_found") end
  local size
  size, err = state_of(ctx)
  if err then return nil, err end
  for _, t in ipairs(doc.tables) do
    if upload.table_key(t.name) == upload.table_key(ctx.params.name) then
      return answer.text(200, schema.to_json(dataset.types.table, t), state_headers(size or t.bytes, not size))
    end
  end
  if not size then return nil, problem.err("not_found") end
  return {status = 204, headers = state_headers(size)}
end

---DELETE …/tables/{name}: give its resumable upload up. A table that is entered stays.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.cancel(ctx)
  local size, err, row = state_of(ctx)
  if not size then return nil, err or problem.err("not_found") end
  local ok
  ok, err = upload.drop(ctx.project, row)
  return ok and {status = 204, headers = {}}, err
end

return M
