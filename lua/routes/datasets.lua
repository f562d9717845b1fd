-- Datasets: made, filled table by table with streamed uploads, sealed.

local dataset = require "domain.dataset"
local lists = require "domain.lists"
local table_upload = require "domain.table_upload"
local T = require "http.types"

local base = "/api/v1/projects/{project_id}/datasets"
local one = base .. "/{dataset_id}"
local ty = dataset.types.dataset
local params = {project_id = T.project_id, dataset_id = T.made_id("ds")}
local table_params = {project_id = T.project_id, dataset_id = params.dataset_id, name = T.table_name}

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
    upload = {"text/csv", "application/x-ndjson"}, headers = {{"Content-Encoding", "gzip or identity"},
      {"Upload-Complete", "?1, or ?0 when more will come: the upload can be resumed"},
      {"Upload-Offset", "where the bytes go on; absent: from the beginning"}, {"Upload-Length", "bytes of the whole"},
      {"Content-Digest", "sha-256 of these bytes"}, {"Repr-Digest", "sha-256 of the whole, as it is encoded"}},
    upload_examples = {["text/csv"] = sample, ["application/x-ndjson"] = '{"order_id":"1","amount":"12.50"}\n'},
    answers = {[200] = {type = dataset.types.table}, [204] = {doc = "More is to come", headers = {"Upload-Offset", "Upload-Complete"}}},
    handler = table_upload.put},
  {method = "GET", path = one .. "/tables/{name}", operation_id = "getTable", role = "viewer", tag = "datasets",
    summary = "Get a table, and how far its upload is", params = table_params,
    answers = {[200] = {type = dataset.types.table, headers = {"Upload-Offset", "Upload-Complete"}},
      [204] = {doc = "No table yet, but an upload", headers = {"Upload-Offset", "Upload-Complete"}}}, handler = table_upload.get},
  {method = "DELETE", path = one .. "/tables/{name}", operation_id = "cancelUpload", role = "operator", tag = "datasets",
    summary = "Give a resumable upload up", params = table_params, answers = {[204] = {doc = "Given up"}},
    handler = table_upload.cancel},
  {method = "POST", path = one .. "/seal", operation_id = "sealDataset", role = "operator", tag = "datasets",
    summary = "Seal a dataset: it can be analysed and never changes again", params = params,
    body = T.object("SealDataset", {}), example = {}, answers = {[200] = {type = ty}}, handler = dataset.seal},
  {method = "POST", path = one .. "/archive", operation_id = "archiveDataset", role = "operator", tag = "datasets",
    summary = "Archive a dataset: its bytes are freed", params = params, body = T.object("ArchiveDataset", {}), example = {},
    answers = {[200] = {type = ty}}, handler = dataset.archive},
}
