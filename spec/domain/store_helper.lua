-- A master database in a folder of its own, for specs that need the real store.

local file = require "kt.file"
local store = require "kt.store"

local M = {}

---Opens the store; returns the database and a function that ends and removes it.
---@param name string
function M.open(name)
  local dir = os.tmpname()
  os.remove(dir)
  assert(file.mkdir(dir))
  assert(store.open{dir = dir})
  assert(store.create(name))
  return store.database(name), function()
    store.close()
    assert(file.remove(dir))
  end
end

return M
