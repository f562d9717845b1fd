--- Sessions of the console: each has a scratch VM with the active bundle of a project's agent, in
--- which its texts are evaluated, one after another. Globals stay, locals do not.
---
--- An evaluation is an ordinary run: the same sandbox, the same limits, in slices beside all others.
--- What it asks of the world goes through the door's own services, of which only those that read are
--- there. It is stopped after SECONDS, and when its client goes away.

local agents = require "domain.agent"
local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local door = require "door"
local file = require "kt.file"
local json = require "json"
local places = require "lib.places"
local registry = require "scripts.registry"
local script = require "kt.script"
local snapshot = require "engine.snapshot"
local task = require "kt.task"
local texts = require "lib.text"
local value = require "value"
local versions = require "domain.versions"
local vms = require "engine.vms"

local M = {}

--- Seconds of one evaluation, bytes of its output, memory of a session's VM.
M.SECONDS = 5
M.OUTPUT_BYTES = 64 * 1024
M.VM_BYTES = 16 * 1024 * 1024
M.TEXT_BYTES = 200 * 1024
--- Sessions at once; seconds after which one that nobody uses is ended.
M.MOST = 8
M.IDLE_SECONDS = 1800

local SOURCE = "lua/console/scratch.lua"
--- Its place in the bundle: beside the agent's workflow, so that `require` finds what that does; no
--- script can have such a name.
local NAME = ".console.lua"

--- The calls that only read; all others are refused.
local READS = {
  ["data.get"] = true, ["data.list"] = true, ["erp.load"] = true, ["template.load"] = true, ["template.rendered"] = true,
}

---@class console.Session
---@field id string
---@field project table
---@field agent table? stored template; nil: the project has none
---@field bundle {sha256: string, files: table<string, string>}
---@field vm table
---@field path string of scratch.lua in it
---@field used number
---@field busy boolean

---@type table<string, console.Session>
local sessions = {}

local function close(session)
  sessions[session.id] = nil
  session.vm:close()
end

--- End those that nobody has used for long.
function M.tend()
  local now = clock.monotonic()
  for _, session in pairs(sessions) do
    if not session.busy and now - session.used > M.IDLE_SECONDS then
      close(session)
    end
  end
end

--- End one; nil: all (the worker ends).
---@param id string?
function M.close(id)
  for _, session in pairs(sessions) do
    if id == nil or session.id == id then
      close(session)
    end
  end
end

--- What the sessions of this worker hold.
---@return {project_id: string, bundle: string, bytes: integer}[]
function M.list()
  local list = {}
  for _, session in pairs(sessions) do
    list[#list + 1] = { project_id = session.project.id, bundle = session.bundle.sha256, bytes = session.vm:stats().used,
      runs = session.busy and 1 or 0 }
  end
  return list
end

--- Agents that a project has instances of, the newest instance's first.
---@param project table
---@return string[]? ids, table? err
function M.agents_of(project)
  local list, err = project.db:find("kt_p_agent_instances", {},
    { sort = { { "_id", -1 } }, limit = 500, projection = { "agent_id" } })
  if not list then
    return nil, err
  end
  local ids, seen = {}, {}
  for _, instance in ipairs(list) do
    if not seen[instance.agent_id] then
      seen[instance.agent_id] = true
      ids[#ids + 1] = instance.agent_id
    end
  end
  return ids
end

--- The bundle that a new run of the agent would get.
---@param project table
---@param agent_id string? nil: the agent of the newest instance
---@return table? chosen {agent?, bundle, agents}, table? err
function M.choose(project, agent_id)
  local ids, err = M.agents_of(project)
  if not ids then
    return nil, err
  end
  agent_id = agent_id or ids[1]
  if not agent_id then
    return { bundle = { sha256 = "", files = {} }, agents = ids }
  end
  local agent
  agent, err = versions.resolve(agents.kind, places.master(), agent_id, "latest")
  if not agent then
    return nil, err.code == "not_found" and { code = "not_found", message = "there is no agent " .. agent_id } or err
  end
  local bundle
  bundle, err = registry.bundle_for(agent)
  return bundle and { agent = agent, bundle = bundle, agents = ids }, err
end

local function make_vm(project, bundle, path)
  local source, err = file.read(config.home() .. "/" .. SOURCE)
  if not source then
    return nil, err
  end
  local files
  files, err = vms.with_shared(bundle.files)
  if not files then
    return nil, err
  end
  files[path] = source
  return script.vm { files = files, cap = M.VM_BYTES, share = project.id }
end

local function oldest()
  local found
  for _, session in pairs(sessions) do
    if not session.busy and (not found or session.used < found.used) then
      found = session
    end
  end
  return found
end

--- The session, made or made anew where its VM does not fit what is asked.
---@param id string
---@param project table
---@param agent_id string?
---@return console.Session? session, table|string|nil err_or_news what the person should know
function M.open(id, project, agent_id)
  local chosen, err = M.choose(project, agent_id)
  if not chosen then
    return nil, err
  end
  local session, news = sessions[id], nil
  if session and session.busy then
    return nil, { code = "conflict", message = "the session evaluates something already" }
  elseif session and (session.project.id ~= project.id or session.agent_id ~= (chosen.agent and chosen.agent._id)) then
    close(session)
    session = nil
  elseif session and session.bundle.sha256 ~= chosen.bundle.sha256 then
    news = "scripts were pushed: the scratch VM is a new one, its globals are gone"
    close(session)
    session = nil
  end
  if not session then
    local n = 0
    for _ in pairs(sessions) do
      n = n + 1
    end
    if n >= M.MOST then
      local other = oldest()
      if not other then
        return nil, { code = "conflict", message = "there are " .. n .. " console sessions, all at work" }
      end
      close(other)
    end
    local agent = chosen.agent
    local path = agent and ("agents/%s/%s"):format(agent._id, NAME) or NAME
    local vm
    vm, err = make_vm(project, chosen.bundle, path)
    if not vm then
      return nil, err
    end
    session = { id = id, agent_id = agent and agent._id, agent = agent, bundle = chosen.bundle, vm = vm, path = path }
    sessions[id] = session
  end
  session.project, session.used = project, clock.monotonic()
  return session, news
end

--- What the door's services see of an evaluation.
local function context_of(session)
  local template = session.agent or {}
  return {
    project_id = session.project.id,
    db = session.project.db,
    execution_id = "console",
    execution = { snapshot = {} },
    settings = snapshot.settings(session.project, template, {}, {}),
    files = session.bundle.files,
    bundle = session.bundle.sha256,
    capability = { principal_id = "console", role = "viewer", via = "cli", tools = json.array {} },
    progress = {},
  }
end

local function nothing() end

local function do_call(context, call)
  if not READS[call.name] then
    return nil, { code = "read_only", message = call.name
      .. ": the console only reads. What acts or waits belongs into an execution.", retryable = false }
  end
  local service = door.service(call.name)
  local worked, answer, err = pcall(service.run, {
    id = call.id, name = call.name, args = value.decode(call.args), now = clock.now(), run = context,
    publish = nothing, emit = nothing,
  })
  if not worked then
    return nil, type(answer) == "table" and answer or { code = "internal", message = tostring(answer) }
  elseif err then
    return nil, err
  elseif service.expand and answer ~= nil then
    return service.expand(answer)
  end
  return answer
end

local function answer_call(run, context, call)
  local answer, err = do_call(context, call)
  local ok, blob = err == nil, nil
  if ok then
    ok, blob = pcall(value.encode, answer)
    err = not ok and { code = "output_limit", message = call.name .. ": the answer is too large" } or nil
  end
  return run:answer(call.id, ok, ok and blob or value.encode(door.script_error(err)), clock.now())
end

local function add_output(out, call)
  local said = value.decode(call.args)
  local text
  if call.name == "log" then
    local fields = said.fields
    if type(fields) == "table" and fields.console then
      text = said.message
    else
      text = ("[%s] %s%s"):format(said.level, said.message, fields and fields ~= json.null and " " .. json.encode(fields) or "")
    end
  else
    text = ("[%s] %s"):format(call.name, json.encode(said))
  end
  text = text .. "\n"
  local room = M.OUTPUT_BYTES - out.bytes
  if #text > room then
    local kept = texts.cut(text, room)
    out.more = out.more + #text - #kept
    text = kept
  end
  out.bytes = out.bytes + #text
  out.parts[#out.parts + 1] = text ~= "" and text or nil
end

--- What a limit's error says to a person.
local function plainly(err)
  if err.where and err.where.script:sub(-#NAME) == NAME then
    err.where = nil
  end
  if err.code == "deadline_exceeded" then
    err.message = ("stopped after %g s"):format(M.SECONDS)
  elseif err.code == "memory_limit" then
    err.message = ("more than %d MiB; :reset gives a new VM"):format(M.VM_BYTES / 1048576)
  elseif err.code == "output_limit" and err.message:find("log and progress", 1, true) then
    err.message = "more than 4 MiB were printed"
  end
  return err
end

local function drive(run, context, out)
  while true do
    local event, err = run:next()
    if not event then
      return nil, err
    elseif event.status == "done" then
      return value.decode(event.value)
    elseif event.status == "error" then
      return { failed = plainly(event.error) }
    end
    for _, call in ipairs(event.calls) do
      if call.emit then
        add_output(out, call)
      else
        answer_call(run, context, call)
      end
    end
  end
end

--- Evaluate a text. Yields until it has ended.
---@param session console.Session
---@param text string
---@return {value: table?, names: string[]?, failed: table?, output: string, more: integer}? result
---@return table? err
function M.evaluate(session, text)
  if #text > M.TEXT_BYTES then
    return nil, { code = "body_too_large", message = "the text is larger than 200 KiB" }
  end
  session.busy = true
  local run, err = session.vm:start {
    path = session.path, call = "eval", input = { text = text }, keep = true, deadline = M.SECONDS, now = clock.now(),
    seed = crypto.random(16),
  }
  if not run then
    session.busy = false
    return nil, err
  end
  task.defer(function() -- also when the client has gone
    run:close()
    session.busy, session.used = false, clock.monotonic()
  end)
  local out = { parts = {}, bytes = 0, more = 0 }
  local result
  result, err = drive(run, context_of(session), out)
  if not result then
    return nil, err
  end
  result.output, result.more = table.concat(out.parts), out.more
  return result
end

return M
