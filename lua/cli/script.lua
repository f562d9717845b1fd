--- kontor script push: check a script and make it the version that the next runs take.
-- Through the running service's admin socket, else in the store itself, under its lock.
local config = require "kt.config"
local fetch = require "kt.fetch"
local file = require "kt.file"
local json = require "json"
local options = require "lib.options"
local registry = require "scripts.registry"

local push = {
  usage = "kontor script push PATH FILE [--note TEXT]",
  arguments = {
    { "PATH", "of the script in master data, such as agents/erp-exception-management/workflow.lua" },
    { "FILE", "its new source; - reads standard input" },
  },
  options = { { "note", "TEXT", "why, kept with the version" } },
}

local function say(...) io.stderr:write("kontor script: ", ...) io.stderr:write("\n") end

local function read(name)
  if name == "-" then return io.read("*a") end
  return file.read(name)
end

local function escape(text)
  return (text:gsub("[^A-Za-z0-9._-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

--- Through the service. Answers nothing when none listens: a socket may be left from one that was
--- killed, and the lock of the data directory then says which it is.
---@return table? pushed, table? err
local function by_service(path, source, note)
  local socket = config.get("KONTOR_DATA_DIR") .. "/kontor.sock"
  if not file.stat(socket) then return nil end
  local reply, err = fetch {
    method = "PUT", unix = socket, timeout = 60,
    url = "http://localhost/api/v1/master/scripts/" .. escape(path),
    headers = { ["Content-Type"] = "application/json" },
    body = json.encode { source = source, note = note or json.null },
  }
  if not reply then
    if err.code == "upstream_failed" then return nil end
    return nil, err
  end
  local doc, bad = json.decode(reply.body)
  if reply.status == 200 and doc then return doc end
  return nil, doc and { code = doc.code, message = doc.detail or doc.title } or bad
end

--- In the store itself.
local function by_store(path, source, note)
  local dir = config.get("KONTOR_DATA_DIR")
  local lock, err = file.lock_data_dir(dir)
  if not lock then return nil, err end
  local store = require "kt.store"
  local pushed
  local ok
  ok, err = store.open { dir = dir }
  if ok then
    local migrations = require "domain.migrations"
    local name = config.get("MASTER_DATABASE_NAME")
    ok, err = store.create(name)
    if ok or err.code == "already_exists" then ok, err = migrations.load(config.home()) end
    if ok then ok, err = migrations.run("master", store.database(name)) end
    if ok then
      local user = os.getenv("USER") or "?"
      pushed, err = registry.push(path, source,
        { id = "cli:" .. user, name = user, role = "admin", projects = { "*" }, via = "cli" }, { note = note })
    end
    store.close()
  end
  lock:release()
  return pushed, err
end

return function(args)
  local verb, values = options.verb("script", args, { { "push", push } })
  if not verb then return values end
  local path, from = values[1], values[2]
  if not registry.valid_path(path) then
    say("'", path, "' is no path of a script: names joined by /")
    return 1
  end
  local source, err = read(from)
  if not source then
    say(err.message or err.code)
    return 1
  end
  local line = registry.line_of_no_text(source)
  if line then
    say(from, ":", tostring(line), ": is not UTF-8 text")
    return 1
  end
  local pushed
  pushed, err = by_service(path, source, values.note)
  if not pushed and not err then pushed, err = by_store(path, source, values.note) end
  if not pushed then
    say(registry.describe(err))
    return 1
  end
  io.stdout:write(pushed.path, pushed.changed and " is now version " or " is already version ", tostring(pushed.version),
    " (", pushed.sha256:sub(1, 12), ")\n")
  return 0
end
