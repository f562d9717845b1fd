--- kontor script push PATH FILE: check a script and make it the version that the next runs take.
-- Through the running service's admin socket, else in the store itself, under its lock.
local config = require "kt.config"
local fetch = require "kt.fetch"
local file = require "kt.file"
local json = require "json"
local registry = require "scripts.registry"

local USAGE = [[
usage: kontor script push PATH FILE [--note TEXT]

  PATH   of the script in master data, such as agents/erp-exception-management/workflow.lua
  FILE   its new source; - reads standard input
  --note TEXT   why, kept with the version
]]

local function say(...) io.stderr:write("kontor script: ", ...) io.stderr:write("\n") end

---@return {path: string, file: string, note: string?}|nil
local function parse(args)
  local plain, note = {}, nil
  local i = 1
  while i <= #args do
    if args[i] == "--note" then
      note, i = args[i + 1], i + 1
      if not note then return nil end
    elseif args[i]:sub(1, 1) == "-" and args[i] ~= "-" then
      return nil
    else
      plain[#plain + 1] = args[i]
    end
    i = i + 1
  end
  if plain[1] ~= "push" or #plain ~= 3 then return nil end
  return { path = plain[2], file = plain[3], note = note }
end

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
local function by_service(options, source)
  local socket = config.get("KONTOR_DATA_DIR") .. "/kontor.sock"
  if not file.stat(socket) then return nil end
  local reply, err = fetch {
    method = "PUT", unix = socket, timeout = 60,
    url = "http://localhost/api/v1/master/scripts/" .. escape(options.path),
    headers = { ["Content-Type"] = "application/json" },
    body = json.encode { source = source, note = options.note or json.null },
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
local function by_store(options, source)
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
      pushed, err = registry.push(options.path, source,
        { id = "cli:" .. user, name = user, role = "admin", projects = { "*" }, via = "cli" }, { note = options.note })
    end
    store.close()
  end
  lock:release()
  return pushed, err
end

return function(args)
  if args[1] == "--help" or args[1] == "-h" then
    io.stdout:write(USAGE)
    return 0
  end
  local options = parse(args)
  if not options then
    io.stderr:write(USAGE)
    return 2
  end
  if not registry.valid_path(options.path) then
    say("'", options.path, "' is no path of a script: names joined by /")
    return 1
  end
  local source, err = read(options.file)
  if not source then
    say(err.message or err.code)
    return 1
  end
  local line = registry.line_of_no_text(source)
  if line then
    say(options.file, ":", tostring(line), ": is not UTF-8 text")
    return 1
  end
  local pushed
  pushed, err = by_service(options, source)
  if not pushed and not err then pushed, err = by_store(options, source) end
  if not pushed then
    say(registry.describe(err))
    return 1
  end
  io.stdout:write(pushed.path, pushed.changed and " is now version " or " is already version ", tostring(pushed.version),
    " (", pushed.sha256:sub(1, 12), ")\n")
  return 0
end
