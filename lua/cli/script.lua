--- kontor script push: check a script and make it the version that the next runs take.
-- Through the running service's admin socket, else in the store itself, under its lock.
local admin = require "lib.admin"
local file = require "kt.file"
local json = require "json"
local offline = require "domain.offline"
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

local function by_service(path, source, note)
  return admin.ask("PUT", "/master/scripts/" .. admin.escape(path), { source = source, note = note or json.null })
end

local function by_store(path, source, note)
  return offline.with_master(function()
    return registry.push(path, source, offline.principal(), { note = note })
  end)
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
