-- A store with one database, for specs that need the real one: in a folder of its own, or, where
-- MONGODB_URL is set, on that server, under names that tests/run makes for this process alone.

local config = require "kt.config"
local file = require "kt.file"
local store = require "kt.store"

local M = {}

---The name of a project's database; without an id the master's.
---@param id string?
function M.name(id)
  return id and config.get("PROJECT_DATABASE_PREFIX") .. id or config.get("MASTER_DATABASE_NAME")
end

-- Only what carries our names; never those that a service at hand would have.
local function drop_databases()
  local master, prefix = M.name(), M.name("")
  assert(master ~= "ktern-masterdb", "specs on MongoDB need a MASTER_DATABASE_NAME of their own")
  for _, name in ipairs(assert(store.list())) do
    if name == master or name:sub(1, #prefix) == prefix then assert(store.drop(name)) end
  end
end

---A new folder; in memory where tests/run names a place there, since nothing of a spec outlives its process.
---@return string
function M.folder()
  local dir = os.tmpname()
  os.remove(dir)
  local place = os.getenv "KONTOR_TEST_FOLDER"
  if place then dir = place .. "/" .. dir:match("[^/]+$") end
  assert(file.mkdir(dir))
  return dir
end

---Opens the store; returns the database (a project's, or the master's) and a function that ends and removes it.
---@param id string?
---@param options table? of store.open
---@return table db, fun() close, string dir
function M.open(id, options)
  local dir = M.folder()
  options = options or {}
  options.dir = dir
  assert(store.open(options))
  assert(store.create(M.name(id)))
  return store.database(M.name(id)), function()
    if os.getenv "MONGODB_URL" then drop_databases() end
    store.close()
    assert(file.remove(dir))
  end, dir
end

return M
