---@meta kt.store
-- The types of kt.store (runtime/bind/lua_store.c, lua_store_files.c) for editors; never loaded. All that is said to yield
-- gives nil, err when it fails; a wrong type of argument raises.
--
-- Filter: {status = "queued", {"created_at", "gte", v}, {"or", filter, filter…}}. Operators: eq ne in nin gt
-- gte lt lte exists prefix; eq with json.null matches a missing field too. One `or`, at the top, of at most 8
-- branches. Filtered and indexed fields are scalars. Paths are dotted through sub-documents.
-- Update: {set = {path = v}, unset = {"path"}, inc = {}, min = {}, max = {}, set_on_insert = {},
-- push = {path = v | {each = {…}}}, add_to_set = {the same}, pull = {path = scalar}}.

---@class kt.store.Error : kontor.Error
---@field index? integer commit: position of the op that failed
---@field key? string already_exists: the index, or "_id"
---@field number? integer MongoDB's code: 11000, 14 (wrong type), 28 (path through a scalar), 2, 66

---@class kt.store.Find
---@field sort? table[] {{path, 1 | -1}…}, at most 4; `_id` is appended in the last direction
---@field limit? integer without it all, up to 64 MiB
---@field after? any[] the sort values (with `_id`) of the row to go on behind
---@field projection? string[] top-level names to keep; `_id` always stays

---@class kt.store.Written
---@field matched integer
---@field modified integer documents that changed; inserts and deletes count here too
---@field upserted_id? any

---@class kt.store.Database
---@field name string
local Database = {}

---Yields. nil without an error: no such document.
---@param coll string
---@param filter? table
---@param options? kt.store.Find
---@return table|nil doc, kt.store.Error? err
function Database:find_one(coll, filter, options) end

---Yields.
---@return table[]|nil docs, kt.store.Error? err
function Database:find(coll, filter, options) end

---Yields. The documents never pass through Lua.
---@param options? kt.store.Find | {view: userdata}
---@return string|nil json an array
---@return integer|kt.store.Error count
---@return any[]|nil last_key for `after`; nil when fewer than `limit` came
function Database:find_json(coll, filter, options) end

---Yields. nil without an error: no such document.
---@param view? userdata of value.view
---@return string|nil json, kt.store.Error? err
function Database:find_one_json(coll, filter, view) end

---Yields.
---@param max? integer stop counting there
---@return integer|nil n, kt.store.Error? err
function Database:count(coll, filter, max) end

---Yields. Sorted; at most 10,000 values.
---@return any[]|nil values, kt.store.Error? err
function Database:distinct(coll, path, filter) end

---Yields. Rows of the keys' and values' aliases; a key that a document lacks is absent from its row. At most
---4 keys, 32 values, 100,000 rows.
---@param spec {filter?: table, keys?: table<string, string>, values?: table<string, string[]>, sort?: table[], limit?: integer}
---@return table[]|nil rows, kt.store.Error? err
function Database:group(coll, spec) end

---Yields. All or none. A document without `_id` gets a UUIDv7.
---@param docs table a document or a list of them
---@return integer|nil n, kt.store.Error? err
function Database:insert(coll, docs) end

---Yields.
---@param options? {upsert?: boolean} upsert: the filter has equalities alone
---@return kt.store.Written|nil, kt.store.Error? err
function Database:update_one(coll, filter, update, options) end

---Yields. All or none.
---@return kt.store.Written|nil, kt.store.Error? err
function Database:update_many(coll, filter, update, options) end

---Yields. Keeps `_id`.
---@param options? {upsert?: boolean}
---@return kt.store.Written|nil, kt.store.Error? err
function Database:replace_one(coll, filter, doc, options) end

---Yields. The first in sort order; the document as it was, or with `new` as it is now.
---@param options {update?: table, remove?: boolean, sort?: table[], upsert?: boolean, new?: boolean, projection?: string[]}
---@return table|nil doc, kt.store.Error? err
function Database:find_and_modify(coll, filter, options) end

---Yields.
---@return integer|nil n, kt.store.Error? err
function Database:delete_one(coll, filter) end

---Yields. All or none.
---@return integer|nil n, kt.store.Error? err
function Database:delete_many(coll, filter) end

--- A collection that is there before its first document. Yields.
---@param coll string
---@return true|nil, kontor.Error|nil
function Database:ensure_collection(coll) end

---Yields. There already with the same keys: true; with others: `conflict`.
---@param index {name: string, keys: table[], unique?: boolean} unique counts a missing field as null
---@return true|nil, kt.store.Error? err
function Database:ensure_index(coll, index) end

---Yields. One atomic commit, durable when it answers. Ops: {op="insert", coll=, doc= | docs=}, {op="update",
---coll=, filter=, update=, many=?, upsert=?, must_match=?}, {op="replace", …doc=}, {op="delete", …}. must_match
---with nothing matched undoes all: code `conflict`, index.
---@param ops table[] at most 20,000
---@return kt.store.Written[]|nil, kt.store.Error? err
function Database:commit(ops) end

---Yields. Content-addressed, there whole or not at all.
---@param source string|{path: string}
---@return {sha256: string, bytes: integer}|nil, kt.store.Error? err
function Database:blob_put(source) end

---Yields. Checked against its hash.
---@param max? integer bytes; more: `body_too_large`
---@return string|nil bytes, kt.store.Error? err
function Database:blob_get(sha256, max) end

---Yields. The file appears whole or not at all.
---@return true|nil, kt.store.Error? err
function Database:blob_to_file(sha256, path) end

---Yields, for long. All of it as it is at one point of time, into a folder that is there: <coll>.bson and
---<coll>.metadata.json. Nobody waits for it.
---@param path string
---@return {at: userdata, collections: {name: string, documents: integer, bytes: integer, sha256: string, metadata_bytes: integer, metadata_sha256: string}[]}|nil
---@return kt.store.Error? err
function Database:export(path) end

---Yields, for long. Is every file in the folder what the export said? The database itself is not looked at.
---@param summary table as of export
---@return true|nil, kt.store.Error? err data_rejected, with the file's name
function Database:verify(path, summary) end

---Yields, for long. What `verify` does, and then everything into this database, which is empty; `from` and `to`
---in the summary: a top-level `project_id` that is the one becomes the other. What fails leaves a part.
---@param summary table as of export, with from?, to?, leave_out? (names of collections)
---@return true|nil, kt.store.Error? err
function Database:import(path, summary) end

---Another number after every commit to the database, whoever made it; -1: not known now. Does not yield.
---@return number
function Database:version() end

local M = {}

---Once a process, before anything else.
---@param options? {dir?: string, main?: string, readers?: integer, writers?: integer, queue_max?: integer, open_max?: integer, journal_delete?: boolean, sync_normal?: boolean}
---@return true|nil, kontor.Error? err
function M.open(options) end

---Runs what was submitted to its end; blocks the loop. For the end of a process.
function M.close() end

---A handle; the database is opened by its first call. Raises on what is no name.
---@param name string
---@return kt.store.Database
function M.database(name) end

---Yields. There already: true.
---@return true|nil, kontor.Error? err
function M.create(name) end

---Yields.
---@return boolean|nil, kontor.Error? err
function M.exists(name) end

---Yields. Waits for calls that use it.
---@return true|nil, kontor.Error? err
function M.drop(name) end

---Yields.
---@return string[]|nil names, kontor.Error? err
function M.list() end

---Yields.
---@return {problems: string[], collections: table<string, integer>}|nil, kontor.Error? err
function M.check(name) end

---@return {engine: string, open_databases: integer, connections: integer, quarantined: integer, wal_bytes: integer, pending: integer, queue: integer}
function M.stats() end

return M
