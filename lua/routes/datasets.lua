-- Datasets: made, filled table by table with streamed uploads, sealed.

local config = require "kt.config"
local crypto = require "kt.crypto"
local dataset = require "domain.dataset"
local file = require "kt.file"
local ingest = require "kt.ingest"
local json = require "json"
local lists = require "domain.lists"
local problem = require "http.problem"
local task = require "kt.task"
local T = require "http.types"

local base = "/api/v1/projects/{project_id}/datasets"
local one = base .. "/{dataset_id}"
local ty = dataset.types.dataset
local params = {project_id = T.project_id, dataset_id = T.made_id("ds")}
local table_params = {project_id = T.project_id, dataset_id = params.dataset_id, name = T.table_name}
local formats = {["text/csv"] = "csv", ["application/x-ndjson"] = "ndjson"}

local function encoding_of(ctx)
  local encoding = (ctx.req.headers["content-encoding"] or "identity"):lower()
  if encoding == "gzip" or encoding == "x-gzip" then return true end
  if encoding == "identity" then return false end
  return nil, problem.err("unsupported_media_type", "Content-Encoding must be gzip or identity.")
end

-- The request's body into the sink. A broken upload leaves nothing.
local function receive(ctx, sink)
  while true do
    local chunk, err = ctx.req:read()
    if err then return nil, err end
    if not chunk then return sink:finish() end
    local ok
    ok, err = sink:write(chunk)
    if not ok then return nil, err end
  end
end

local function put_table(ctx)
  local gzip, err = encoding_of(ctx)
  if gzip == nil then return nil, err end
  local doc
  -- Before the bytes come: a sealed dataset is not worth an upload.
  doc, err = dataset.find_open(ctx)
  if not doc then return nil, err end
  local room
  room, err = dataset.room(ctx.project)
  if not room then return nil, err end
  local dir = config.get("KONTOR_DATA_DIR") .. "/tmp"
  local ok
  ok, err = file.mkdir(dir)
  if not ok and err.code ~= "already_exists" then return nil, err end
  local path = ("%s/upload-%s"):format(dir, crypto.uuid7())
  local sink
  sink, err = ingest.open{format = formats[ctx.upload_media], gzip = gzip, path = path, max_bytes = room}
  if not sink then return nil, err end
  -- Also when the client goes away in the middle.
  task.defer(function()
    sink:abort()
    os.remove(path)
  end)
  local info
  info, err = receive(ctx, sink)
  if not info then
    if err.code == "body_too_large" then return nil, dataset.no_room() end
    return nil, err
  end
  local blob
  blob, err = ctx.project.db:blob_put{path = path}
  if not blob then return nil, err end
  return dataset.put_table(ctx, {
    name = ctx.params.name, format = formats[ctx.upload_media], rows = info.rows, bytes = info.bytes,
    sha256 = blob.sha256, columns = json.array(info.columns), duplicates = json.null, -- known when the rows are mapped
    rejected = info.rejected, errors = json.array(info.errors),
  })
end

local sample = "order_id,amount\n1,12.50\n"

return {
  {method = "POST", path = base, operation_id = "createDataset", role = "operator", tag = "datasets",
    summary = "Make an empty dataset", params = {project_id = T.project_id}, body = ty,
    example = {name = "June 2014", mapping = "identity", as_of = "2014-06-30"},
    answers = {[201] = {type = ty, doc = "Created", headers = {"Location"}}}, handler = dataset.create},
  {method = "GET", path = base, operation_id = "listDatasets", role = "viewer", tag = "datasets",
    summary = "List datasets", params = {project_id = T.project_id},
    query = lists.query{{"status", T.enum{"open", "sealing", "sealed", "failed", "archived"}},
      {"archived", T.bool, default = false, doc = "also those that are archived"}},
    answers = {[200] = {list = ty, doc = "A page, newest first"}},
    handler = function(ctx)
      local filter = {}
      if ctx.query.status then filter.status = ctx.query.status
      elseif not ctx.query.archived then filter[1] = {"status", "ne", "archived"} end
      return lists.page(ctx, {db = ctx.project.db, coll = "kt_p_datasets", filter = filter, type = ty})
    end},
  {method = "GET", path = one, operation_id = "getDataset", role = "viewer", tag = "datasets",
    summary = "Get a dataset", params = params, answers = {[200] = {type = ty}}, handler = dataset.get},
  {method = "PUT", path = one .. "/tables/{name}", operation_id = "putTable", role = "operator", tag = "datasets",
    summary = "Upload a table; again under the same name replaces it", params = table_params,
    upload = {"text/csv", "application/x-ndjson"}, headers = {{"Content-Encoding", "gzip or identity"}},
    upload_examples = {["text/csv"] = sample, ["application/x-ndjson"] = '{"order_id":"1","amount":"12.50"}\n'},
    answers = {[200] = {type = dataset.types.table}}, handler = put_table},
  {method = "POST", path = one .. "/seal", operation_id = "sealDataset", role = "operator", tag = "datasets",
    summary = "Seal a dataset: it can be analysed and never changes again", params = params,
    body = T.object("SealDataset", {}), example = {}, answers = {[200] = {type = ty}}, handler = dataset.seal},
}
