-- Datasets (kt_p_datasets): the tables that an analysis reads. Open while tables come in, then
-- sealed and never changed again. A table's bytes are a blob, found by their hash.

local answer = require "http.answer"
local audit = require "domain.audit"
local clock = require "kt.clock"
local commit = require "domain.commit"
local execution = require "domain.execution"
local ids = require "domain.ids"
local json = require "json"
local problem = require "http.problem"
local quota = require "domain.quota"
local registry = require "scripts.registry"
local schema = require "http.schema"
local storage = require "domain.storage"
local T = require "http.types"
local tables = require "domain.tables"
local upload = require "domain.upload"
local value = require "value"

local M = {}

local coll = "kt_p_datasets"
local attempts = 50 -- as many tables may come in at once
local max_tables = 200
local max_errors = 100 -- of a table

local cell_error = T.object("CellError", {
  {"line", T.int(0)}, {"column", T.str(), nullable = true}, {"code", T.str()}, {"message", T.str{max = 1000}},
})

M.types = {
  table = T.object("Table", {
    {"name", T.table_name}, {"format", T.enum{"csv", "ndjson"}}, {"rows", T.int(0)}, {"bytes", T.int(0)},
    {"sha256", T.hash}, {"columns", T.list(T.str())}, {"duplicates", T.int(0), nullable = true},
    {"rejected", T.int(0), nullable = true}, {"errors", T.list(cell_error)},
  }),
}

M.types.dataset = T.object("Dataset", {
  {"dataset_id", T.made_id("ds"), ro = true, from_id = true},
  {"name", T.str(), default = ""},
  {"mapping", T.str{min = 1, max = 64, pattern = "^[a-z0-9][a-z0-9_-]*$",
    match = function(s) return s:find("^[a-z0-9][a-z0-9_-]*$") end}, default = "identity"},
  {"as_of", T.date, nullable = true},
  {"parent_id", T.made_id("ds"), nullable = true},
  {"metadata", T.map(), default = {}},
  {"source", T.enum{"upload", "mcp", "folder"}, ro = true},
  {"status", T.enum{"open", "sealing", "sealed", "failed", "archived"}, ro = true},
  {"tables", T.list(M.types.table), ro = true},
  {"bytes", T.int(0), ro = true},
  {"warnings", T.list(T.object("Warning", {{"code", T.str()}, {"message", T.str{max = 4000}}})), ro = true},
  {"created_by", T.str(), ro = true},
  {"created_at", T.ts, ro = true},
  {"sealed_at", T.ts, ro = true, nullable = true},
})

local ty = M.types.dataset

local function location(ctx, id)
  return ("/api/v1/projects/%s/datasets/%s"):format(ctx.project.id, id)
end

---POST …/datasets.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.create(ctx)
  local db, body, limit = ctx.project.db, ctx.body, ctx.project.doc.quotas.datasets
  local mapping, err = registry.mapping(body.mapping)
  if err then return nil, err end
  if not mapping then return nil, problem.field({pointer = "/mapping"}, "not_found", "does not exist") end
  local stored = schema.to_stored(ty, body)
  stored.tables, stored.bytes = json.array{}, 0
  if body.parent_id ~= json.null then
    -- Append: the child begins with the parent's tables and may replace or add some.
    local parent
    parent, err = db:find_one(coll, {_id = body.parent_id})
    if err then return nil, err end
    if not parent then return nil, problem.field({pointer = "/parent_id"}, "not_found", "does not exist") end
    if parent.status == "archived" then return nil, problem.err("archived", "The parent dataset is archived.") end
    if parent.status ~= "sealed" then
      return nil, problem.err("dataset_open", "The parent dataset is not sealed.")
    end
    stored.tables, stored.bytes = parent.tables, parent.bytes
  end
  stored._id, stored.source, stored.status = ids.new("ds"), "upload", "open"
  stored.warnings, stored.sealed_at = json.array{}, json.null
  stored.created_by, stored.created_at = ctx.principal.name, value.date(clock.now())
  -- `revision` (storage only) orders concurrent changes of the tables.
  stored.revision = 0
  local result = answer.created(location(ctx, stored._id), schema.to_json(ty, stored))
  local ops = {
    {op = "insert", coll = coll, doc = stored},
    storage.op({datasets = 1, added = 1}, {{"datasets", "lt", limit}}),
    audit.entry(ctx.principal, "dataset.create", "dataset", stored._id,
      audit.changes(ty, nil, schema.to_plain(ty, stored)), ctx.req),
  }
  -- The parent keeps its tables as long as it is not archived.
  if body.parent_id ~= json.null then ops[#ops + 1] = M.still(body.parent_id, "sealed") end
  local done
  done, err = commit.run(ctx, db, ops, result)
  if done then return done end
  if storage.refused(err) then
    local usage
    usage, err = storage.usage(db)
    return nil, usage and quota.exceeded("datasets", usage.datasets, limit) or err
  end
  return nil, err.code == "conflict" and problem.err("archived", "The parent dataset is archived.") or err
end

---An op that changes nothing, and fails as `conflict` when the dataset has another status.
---@param id string
---@param status string
function M.still(id, status)
  return {op = "update", coll = coll, filter = {_id = id, status = status}, update = {set = {status = status}}, must_match = true}
end

---@param id string
function M.still_open(id) return M.still(id, "open") end

---A dataset that still takes tables.
---@param ctx kontor.Context
---@return table|nil doc
---@return kontor.Error|nil
function M.find_open(ctx)
  local doc, err = ctx.project.db:find_one(coll, {_id = ctx.params.dataset_id})
  if not doc then return nil, err or problem.err("not_found") end
  if doc.status ~= "open" then
    return nil, problem.err("dataset_sealed", "The dataset is " .. doc.status .. "; make a new one.")
  end
  return doc
end

local function with_table(doc, entry)
  local list, bytes, replaced = {}, 0, nil
  for _, t in ipairs(doc.tables) do
    if upload.table_key(t.name) == upload.table_key(entry.name) then
      t, replaced = entry, t.sha256
    end
    list[#list + 1] = t
  end
  if not replaced then list[#list + 1] = entry end
  for _, t in ipairs(list) do bytes = bytes + t.bytes end
  return list, bytes, replaced
end

---Enter an uploaded table; again under the same name replaces it.
---@param ctx kontor.Context
---@param entry table of type Table
---@param more table[] ops of the upload, in the same commit
---@return kontor.Answer|nil
---@return kontor.Error|nil conflict with coll: of an op of `more`
function M.put_table(ctx, entry, more)
  local db = ctx.project.db
  local result = answer.text(200, schema.to_json(M.types.table, entry))
  for _ = 1, attempts do
    local doc, err = M.find_open(ctx)
    if not doc then return nil, err end
    local list, bytes, replaced = with_table(doc, entry)
    if #list > max_tables then
      return nil, problem.err("quota_exceeded", "A dataset has at most " .. max_tables .. " tables.")
    end
    local ops = {
      {op = "update", coll = coll, filter = {_id = doc._id, status = "open", revision = doc.revision},
        update = {set = {tables = json.array(list), bytes = bytes}, inc = {revision = 1}}, must_match = true},
      audit.entry(ctx.principal, "dataset.put_table", "dataset", doc._id,
        {{pointer = "/tables/" .. entry.name, from = replaced or json.null, to = entry.sha256}}, ctx.req),
    }
    for _, op in ipairs(more) do ops[#ops + 1] = op end
    if replaced and replaced ~= entry.sha256 then ops[#ops + 1] = storage.free(replaced) end
    local done
    done, err = commit.run(ctx, db, ops, result)
    if done and replaced then upload.clear(ctx.project, {_id = "free:" .. replaced}) end
    if done then return done end
    if err.code ~= "conflict" or err.coll ~= coll then return nil, err end
  end
  return nil, problem.err("conflict")
end

-- What the mapping makes of the tables, entered into them: rejected cells by line, duplicate rows.
local function inspect(db, doc)
  local files, err = registry.mapping(doc.mapping)
  if not files then
    return nil, err or problem.err("data_rejected", "There is no mapping " .. doc.mapping .. ".")
  end
  local inspected
  inspected, err = tables.inspect(db, doc, files)
  if not inspected then return nil, err end
  local accounts = {}
  for _, account in ipairs(inspected.tables) do accounts[account.name] = account end
  for _, t in ipairs(doc.tables) do
    local account = accounts[t.name]
    if account then
      t.duplicates, t.rejected, t.errors = account.duplicates, account.rejected, json.array{}
      for i = 1, math.min(#account.errors, max_errors) do
        local e = account.errors[i]
        t.errors[i] = {line = e.line or 0, column = e.column, code = e.code, message = e.message}
      end
    end
  end
  local warnings = json.array(inspected.warnings)
  for _, name in ipairs(inspected.ignored) do
    warnings[#warnings + 1] = {code = "not_mapped", message = name .. ": the mapping " .. doc.mapping .. " does not read it"}
  end
  if not inspected.extract_date then
    warnings[#warnings + 1] = {code = "no_key_date", message = "neither the dataset nor the mapping " .. doc.mapping
      .. " has a key date: each analysis of it must give as_of"}
  end
  doc.warnings = warnings
  return true
end

---POST …/seal: the tables are read once as an analysis would, so that what is wrong with them is
---known before one runs. Sealing a sealed dataset changes nothing.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.seal(ctx)
  local db = ctx.project.db
  for _ = 1, attempts do
    local doc, err = db:find_one(coll, {_id = ctx.params.dataset_id})
    if not doc then return nil, err or problem.err("not_found") end
    if doc.status == "sealed" then return answer.text(200, schema.to_json(ty, doc)) end
    if doc.status ~= "open" then return nil, problem.err("invalid_state", "The dataset is " .. doc.status .. ".") end
    local ok
    ok, err = inspect(db, doc)
    if not ok then return nil, err end
    doc.status, doc.sealed_at = "sealed", value.date(clock.now())
    local result = answer.text(200, schema.to_json(ty, doc))
    local done
    done, err = commit.run(ctx, db, {
      {op = "update", coll = coll, filter = {_id = doc._id, status = "open", revision = doc.revision},
        update = {set = {status = "sealed", sealed_at = doc.sealed_at, tables = json.array(doc.tables),
          warnings = doc.warnings}, inc = {revision = 1}}, must_match = true},
      audit.entry(ctx.principal, "dataset.seal", "dataset", doc._id, nil, ctx.req),
    }, result)
    if done then
      upload.clear(ctx.project, {dataset_id = doc._id}) -- what was on its way comes too late
      return done
    end
    if err.code ~= "conflict" then return nil, err end
  end
  return nil, problem.err("conflict")
end

-- Is a run that has not ended to read it?
local function in_use(db, id)
  local going_on = {}
  for _, status in ipairs(execution.statuses) do
    if not execution.ended[status] then going_on[#going_on + 1] = status end
  end
  local n, err = db:count("kt_p_executions", {{"status", "in", going_on}, {"input_data.dataset_id", "eq", id}}, 1)
  return n and n > 0, err
end

-- Ops that free the bytes of the dataset's tables, added to `ops`.
local function free_tables(doc, ops)
  local freed = {}
  for _, t in ipairs(doc.tables) do
    if not freed[t.sha256] then
      freed[t.sha256] = true
      ops[#ops + 1] = storage.free(t.sha256)
    end
  end
end

-- What is on its way to a dataset that takes nothing any more, and all blobs to be freed.
local function left_by(id) return {{"or", {dataset_id = id}, {{"_id", "prefix", "free:"}}}} end

---POST …/archive: nothing reads it any more. Its tables' bytes are freed as far as no other dataset has
---them; what is known of it, and the reports and findings of its runs, stay.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.archive(ctx)
  local db = ctx.project.db
  for _ = 1, attempts do
    local doc, err = db:find_one(coll, {_id = ctx.params.dataset_id})
    if not doc then return nil, err or problem.err("not_found") end
    if doc.status == "archived" then return answer.text(200, schema.to_json(ty, doc)) end
    local used
    used, err = in_use(db, doc._id)
    if err then return nil, err end
    if used then return nil, problem.err("invalid_state", "An execution that has not ended reads the dataset.") end
    local was = doc.status
    doc.status = "archived"
    local ops = {
      {op = "update", coll = coll, filter = {_id = doc._id, status = was, revision = doc.revision},
        update = {set = {status = "archived"}, inc = {revision = 1}}, must_match = true},
      storage.op{datasets = -1},
      audit.entry(ctx.principal, "dataset.archive", "dataset", doc._id, {{pointer = "/status", from = was, to = "archived"}}, ctx.req),
    }
    free_tables(doc, ops)
    local done
    done, err = commit.run(ctx, db, ops, answer.text(200, schema.to_json(ty, doc)))
    if done then
      upload.clear(ctx.project, left_by(doc._id))
      return done
    end
    if err.code ~= "conflict" or err.coll ~= coll then return nil, err end
  end
  return nil, problem.err("conflict")
end

---Delete a dataset with all that is known of it, and free its tables' bytes as far as no other dataset has them.
---@param project kontor.Project
---@param doc table stored form: status, revision and tables at least
---@param more table[] ops for the same commit
---@return boolean|nil deleted false: an execution that has not ended reads it, or it was changed meanwhile
---@return kontor.Error|nil
function M.delete(project, doc, more)
  local used, err = in_use(project.db, doc._id)
  if err then return nil, err end
  if used then return false end
  local ops = {
    {op = "delete", coll = coll, filter = {_id = doc._id, status = doc.status, revision = doc.revision}, must_match = true},
  }
  if doc.status ~= "archived" then
    ops[#ops + 1] = storage.op{datasets = -1}
    free_tables(doc, ops)
  end
  for _, op in ipairs(more) do ops[#ops + 1] = op end
  local done
  done, err = project.db:commit(ops)
  if not done and err.code == "conflict" and err.index == 1 then return false end
  if not done then return nil, err end
  return upload.drop_all(project, left_by(doc._id))
end

---GET one.
function M.get(ctx)
  local text, err = ctx.project.db:find_one_json(coll, {_id = ctx.params.dataset_id}, schema.view(ty))
  if not text then return nil, err or problem.err("not_found") end
  return answer.text(200, text)
end

---May an execution read this dataset?
---@param db table of the project
---@param id string
---@param pointer string where the request names it
---@return true|nil
---@return kontor.Error|nil
function M.check_usable(db, id, pointer)
  local doc, err = db:find_one(coll, {_id = id}, {projection = {"status"}})
  if err then return nil, err end
  if not doc then return nil, problem.field({pointer = pointer}, "not_found", "does not exist") end
  if doc.status == "archived" then return nil, problem.err("archived", "The dataset is archived.") end
  if doc.status ~= "sealed" then return nil, problem.err("dataset_open", "The dataset is " .. doc.status .. ", not sealed.") end
  return true
end

return M
