--- kontor db: databases as a whole, and projects as units. The service may run meanwhile: what works at a project
--- is a job in its store, which other processes see.
local config = require "kt.config"
local file = require "kt.file"
local options = require "lib.options"
local store = require "kt.store"
local types = require "http.types"

local id = { "PROJECT", "id of a project" }
local without_secrets = { "without-secrets", nil, "leave out secrets whose key is not here, instead of refusing" }

local verbs = {
  { "check", {
    usage = "kontor db check [NAME]",
    arguments = { { "NAME", "a database, as listed without it (default: all)", optional = true } },
    options = {},
    after = "Exit code 0 when all is well, 1 when something is broken or cannot be read.",
  } },
  { "backup", {
    usage = "kontor db backup PROJECT", arguments = { id }, options = {},
    after = "An export that is kept in KONTOR_BACKUP_DIR. The project works meanwhile, and nothing waits for it.",
  } },
  { "backups", { usage = "kontor db backups PROJECT", arguments = { id }, options = {} } },
  { "restore", {
    usage = "kontor db restore PROJECT BACKUP", arguments = { id, { "BACKUP", "id of one of its backups" } }, options = {},
    after = "Puts the project's data back to the backup: what came later is lost. The project is out of use meanwhile, its\n"
      .. "runs are ended. Its document (name, settings, quotas) stays as it is.",
  } },
  { "clone", {
    usage = "kontor db clone PROJECT NEW [--name TEXT]", arguments = { id, { "NEW", "id of the clone" } },
    options = { { "name", "TEXT", "name of the clone", default = "that of the project" }, without_secrets },
  } },
  { "export", {
    usage = "kontor db export PROJECT DIR",
    arguments = { id, { "DIR", "folder for it; made, so it must not be there" } }, options = {},
    after = "All of the project as it is at one point of time, in the layout of mongodump, with a manifest; verified by\n"
      .. "checksum and count. The service may run, and nothing waits for it.",
  } },
  { "import", {
    usage = "kontor db import PROJECT DIR", arguments = { { "PROJECT", "id of the new project" }, { "DIR", "an export, or a backup" } },
    options = { without_secrets },
    after = "A new project out of what export wrote, from this store or another one. Runs that had not ended are ended.",
  } },
  { "erase", {
    usage = "kontor db erase PROJECT --confirm PROJECT", arguments = { id },
    options = { { "confirm", "PROJECT", "its id once more", required = true } },
    after = "The project with all its data, files and backups. There is no way back.",
  } },
}

local function tell(...) io.stderr:write("kontor db: ", ...) io.stderr:write("\n") end

local function valid(verb, values)
  if verb == "check" then
    if not values[1] or values[1]:find("^[a-z0-9][a-z0-9_-]*$") then return true end
    tell("'", values[1], "' is no name of a database")
    return false
  end
  for _, text in ipairs { values[1], verb == "clone" and values[2] or nil } do
    if not types.project_id.match(text) then
      tell("'", text, "' is no id of a project")
      return false
    end
  end
  if verb == "restore" and not types.made_id("bak").match(values[2]) then
    tell("'", values[2], "' is no id of a backup")
    return false
  end
  return true
end

---@param args string[]
---@return integer exit code
return function(args)
  local verb, values = options.verb("db", args, verbs)
  if not verb then return values end
  if not valid(verb, values) then return 2 end
  local dir = config.get("KONTOR_DATA_DIR")
  -- What reads makes nothing; an import may be the first thing that a new installation sees.
  if verb ~= "import" and not file.stat(dir) then
    tell("there is no folder ", dir)
    return 1
  end
  local ok, err = store.open { dir = dir }
  if not ok then
    tell(err.message)
    return 1
  end
  local passed, code = pcall(function()
    if verb == "check" then return require("cli.db.check")(values[1]) end
    return require("cli.db.unit")(verb, values)
  end)
  store.close()
  if not passed then error(code, 0) end
  return code
end
