--- Scripts in master data: heads in kt_m_scripts, immutable sources by sha256 in
--- kt_m_script_versions, the history of a path in kt_m_versions (`script/<path>/<version>`).
---
--- A push checks the whole set that would run then (text only, declared in a throw-away VM with a
--- small budget) and moves the heads in one commit; a failed check changes nothing. Runs take a
--- bundle when they are accepted and keep it.

local audit = require "domain.audit"
local bundle = require "scripts.bundle"
local clock = require "kt.clock"
local crypto = require "kt.crypto"
local declared = require "erp.declared"
local describe = require "scripts.describe"
local places = require "lib.places"
local script = require "kt.script"
local template = require "template"
local value = require "value"

local M = { describe = describe }

--- Bytes of one source.
M.SOURCE_BYTES = 256 * 1024
--- Bundles and sources kept in this worker.
local KEPT = 64

---@class scripts.Head
---@field _id string path
---@field kind string
---@field version integer
---@field sha256 string
---@field seed_sha256 string? of the file that it was seeded from

---@class scripts.Pushed
---@field path string
---@field kind string
---@field version integer
---@field sha256 string
---@field changed boolean false when the head had this source already

---@class scripts.Bundle
---@field sha256 string
---@field files table<string, string> source by path

---@type table<string, scripts.Bundle> by sha256
local bundles, bundle_order = {}, {}
---@type table<string, string> bundle sha256 by agent, workflow and generation
local current = {}
local current_generation

local function invalid(message, pointer)
  return nil, { code = "validation_failed", message = message, retryable = false,
    errors = { { pointer = pointer, code = "invalid", message = message } } }
end

---@param path string
---@return boolean
function M.valid_path(path)
  if #path > 200 or path:find("[^%w._/-]") then
    return false
  end
  for part in (path .. "/"):gmatch("([^/]*)/") do
    if part == "" or part:sub(1, 1) == "." then
      return false
    end
  end
  return true
end

local function is_lua(path)
  return path:sub(-4) == ".lua"
end

--- The first line that is not text; nil when all are.
---@param source string
---@return integer? line
function M.line_of_no_text(source)
  if value.is_text(source) and not source:find("%z") then
    return nil
  end
  local number = 0
  for line in (source .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    if line:find("%z") or not value.is_text(line) then
      return number
    end
  end
  return number
end

--- Heads whose path begins with one of the prefixes; all without.
---@param prefixes string[]?
---@return table<string, scripts.Head>? heads, table? err
function M.heads(prefixes)
  local heads = {}
  for _, prefix in ipairs(prefixes or { "" }) do
    local after
    repeat
      local filter = prefix ~= "" and { { "_id", "prefix", prefix } } or {}
      local list, err = places.master():find("kt_m_scripts", filter,
        { sort = { { "_id", 1 } }, limit = 500, after = after })
      if not list then
        return nil, err
      end
      for _, head in ipairs(list) do
        heads[head._id] = head
        after = { head._id }
      end
    until #list < 500
  end
  return heads
end

--- Sources by sha256.
---@param hashes table<string, string> sha256 by path
---@return table<string, string>? files source by path, table? err
local function sources(hashes)
  local wanted, list = {}, {}
  for _, hash in pairs(hashes) do
    if not wanted[hash] then
      wanted[hash] = true
      list[#list + 1] = hash
    end
  end
  local found = {}
  for first = 1, #list, 100 do
    local part = {}
    for i = first, math.min(first + 99, #list) do
      part[#part + 1] = list[i]
    end
    local docs, err = places.master():find("kt_m_script_versions", { { "_id", "in", part } },
      { sort = { { "_id", 1 } }, limit = 100 })
    if not docs then
      return nil, err
    end
    for _, doc in ipairs(docs) do
      found[doc._id] = doc.source
    end
  end
  local files = {}
  for path, hash in pairs(hashes) do
    files[path] = found[hash]
    if not files[path] then
      return nil, { code = "store_corrupt", message = "the source of " .. path .. " is missing" }
    end
  end
  return files
end

local function hashes_of(heads)
  local hashes = {}
  for path, head in pairs(heads) do
    hashes[path] = head.sha256
  end
  return hashes
end

local function keep(entry)
  if not bundles[entry.sha256] then
    bundle_order[#bundle_order + 1] = entry.sha256
    if #bundle_order > KEPT then
      bundles[table.remove(bundle_order, 1)] = nil
    end
  end
  bundles[entry.sha256] = entry
  return entry
end

--- The bundle that was pinned under a hash.
---@param sha256 string
---@return scripts.Bundle? bundle, table? err
function M.load(sha256)
  if bundles[sha256] then
    return bundles[sha256]
  end
  local doc, err = places.master():find_one("kt_m_script_versions", { _id = sha256 })
  if not doc then
    return nil, err or { code = "store_corrupt", message = "bundle " .. sha256 .. " is missing" }
  end
  local hashes, files
  hashes, err = bundle.parse(doc.source)
  if hashes then
    files, err = sources(hashes)
  end
  if not files then
    return nil, err
  end
  return keep { sha256 = sha256, files = files }
end

--- The version that a script of a bundle had when the bundle was taken. Bundles name sources, not
--- versions: of several versions with this source it is the last before `at`.
---@param path string
---@param source string
---@param at userdata date when the run was accepted
---@return integer? version nil without an error when the history does not have it, table? err
function M.version_at(path, source, at)
  local doc, err = places.master():find_one("kt_m_versions", {
    { "_id", "prefix", "script/" .. path .. "/" }, { "created_at", "lte", at }, sha256 = crypto.sha256(source),
  }, { sort = { { "version", -1 } }, projection = { "version" } })
  return doc and doc.version, err
end

--- Counts the pushes: what was put together under the same number is still current.
local function generation()
  local doc, err = places.master():find_one("kt_m_counters", { _id = "scripts" })
  if err then
    return nil, err
  end
  return doc and doc.value or 0
end

--- The bundle that a new run of this agent takes: its own scripts, the shared ones, its workflow, its
--- tools that are scripts; of the last two, when they are another agent's, with all that this one has.
---@param agent table agent template, stored form
---@param tools string[]? paths of its tools
---@return scripts.Bundle? bundle, table? err script_error when the workflow does not exist
function M.bundle_for(agent, tools)
  local number, err = generation()
  if not number then
    return nil, err
  end
  if number ~= current_generation then
    current, current_generation = {}, number
  end
  local key = agent._id .. "\n" .. agent.workflow .. "\n" .. table.concat(tools or {}, "\n")
  if current[key] then
    return M.load(current[key])
  end
  local prefixes = { "agents/" .. agent._id .. "/", bundle.SHARED }
  local taken = { [prefixes[1]] = true }
  for _, path in ipairs { agent.workflow, unpack(tools or {}) } do
    local prefix = bundle.group(path) or path
    if not taken[prefix] then
      taken[prefix] = true
      prefixes[#prefixes + 1] = prefix
    end
  end
  local heads
  heads, err = M.heads(prefixes)
  if not heads then
    return nil, err
  elseif not heads[agent.workflow] then
    return nil, { code = "script_error", message = "the workflow " .. agent.workflow .. " does not exist",
      retryable = false }
  end
  local text, sha256 = bundle.manifest(hashes_of(heads))
  local kept
  kept, err = places.master():update_one("kt_m_script_versions", { _id = sha256 },
    { set_on_insert = { source = text } }, { upsert = true })
  if not kept then
    return nil, err
  end
  local loaded
  loaded, err = M.load(sha256)
  if loaded and number == current_generation then
    current[key] = sha256
  end
  return loaded, err
end

--- The mapping of a name and what it may use, as it is now: the first agent's, by path.
---@param name string
---@return table<string, string>? files source by path, nil without an error when there is none, table? err
function M.mapping(name)
  local heads, err = M.heads { "agents/" }
  if not heads then
    return nil, err
  end
  local agents = {}
  for path in pairs(heads) do
    local agent, found = path:match("^(agents/[^/]+/)mappings/(.+)%.lua$")
    if found == name then
      agents[#agents + 1] = agent
    end
  end
  if #agents == 0 then
    return nil
  end
  table.sort(agents)
  heads, err = M.heads { agents[1] .. "mappings/", agents[1] .. "lib/", bundle.SHARED }
  return heads and sources(hashes_of(heads)), err
end

--- The error of a script that was refused: whatever it raised, the fault is the script's.
local function refused(path, err)
  return { code = "script_error", message = err.message, retryable = false,
    where = err.where or { script = path } }
end

local function check_lua(path, source, libs)
  local declaration, err = script.check { path = path, source = source, libs = libs }
  if not declaration then
    return nil, refused(path, err)
  end
  local holds
  holds, err = declared.check(path, declaration)
  return holds and declaration, err
end

local function check_template(path, source)
  local compiled, err = template.compile(source, path)
  if compiled then
    return { kind = "template" }
  end
  return nil, refused(path, { message = err.message,
    where = { script = path, line = err.details and err.details.line } })
end

--- Check a set of scripts: every Lua file of it compiles and declares, every template compiles.
---@param files table<string, string>
---@return table<string, table>? declarations by path, table? err script_error with where
local function check(files)
  local libs, paths, declarations = {}, {}, {}
  for path, source in pairs(files) do
    paths[#paths + 1] = path
    if is_lua(path) then
      libs[path] = source
    end
  end
  table.sort(paths)
  for _, path in ipairs(paths) do
    local err
    if is_lua(path) then
      declarations[path], err = check_lua(path, files[path], libs)
    elseif path:sub(-3) == ".j2" then
      declarations[path], err = check_template(path, files[path])
    else
      declarations[path] = { kind = "template" }
    end
    if err then
      return nil, err
    end
  end
  return declarations
end

local function version_ops(path, source, kind, head, who, seeded)
  local sha256, now = crypto.sha256(source), value.date(clock.now())
  local version = head and head.version + 1 or 1
  local doc = {
    _id = path, kind = kind, version = version, sha256 = sha256, labels = head and head.labels or {},
    seed_sha256 = seeded and sha256 or head and head.seed_sha256 or nil,
    created_by = who.principal.name, created_at = now, note = who.note,
  }
  return doc, {
    head and { op = "replace", coll = "kt_m_scripts", must_match = true,
      filter = { _id = path, version = head.version }, doc = doc }
      or { op = "insert", coll = "kt_m_scripts", doc = doc },
    { op = "update", coll = "kt_m_script_versions", filter = { _id = sha256 },
      update = { set_on_insert = { source = source } }, upsert = true },
    { op = "insert", coll = "kt_m_versions", doc = {
      _id = "script/" .. path .. "/" .. version, kind = "script", id = path, version = version, doc = doc,
      sha256 = sha256, created_by = who.principal.name, created_at = now } },
    audit.entry(who.principal, head and "script.update" or "script.create", "script", path,
      { { pointer = "/sha256", from = head and head.sha256 or require("json").null, to = sha256 } }, who.req),
  }
end

--- Activate sources together: all or none.
---@param changes table<string, string> source by path
---@param who {principal: table, note: string?, req: table?, ops: (fun(): table[])?}
---@param seeded boolean? they come from agents/ on disk
---@return scripts.Pushed[]? pushed sorted by path, table? err script_error with where {script, line}
function M.activate(changes, who, seeded)
  local groups, paths = {}, {}
  for path, source in pairs(changes) do
    if not M.valid_path(path) then
      return invalid("a script's path is lower-case names joined by /: " .. path:sub(1, 100), "/path")
    elseif #source > M.SOURCE_BYTES then
      return invalid(path .. " has more than " .. M.SOURCE_BYTES .. " bytes", "/source")
    end
    local line = M.line_of_no_text(source)
    if line then
      return invalid(("%s:%d: is not UTF-8 text"):format(path, line), "/source")
    end
    groups[bundle.group(path) or ""] = true
    paths[#paths + 1] = path
  end
  table.sort(paths)
  for _ = 1, 5 do
    local prefixes = {}
    for prefix in pairs(groups) do
      prefixes[#prefixes + 1] = prefix
    end
    if not groups[""] then
      prefixes[#prefixes + 1] = bundle.SHARED
    else
      prefixes = { "" } -- what all share may break any of them
    end
    local heads, err = M.heads(prefixes)
    local files
    if heads then
      files, err = sources(hashes_of(heads))
    end
    if not files then
      return nil, err
    end
    local pushed, ops, later = {}, {}, {}
    for path, source in pairs(changes) do
      files[path] = source
    end
    local decls
    decls, err = check(files)
    if not decls then
      return nil, err
    end
    for i, path in ipairs(paths) do
      local head, source = heads[path], changes[path]
      local kind = decls[path].kind or "lib"
      if head and head.kind ~= kind and head.kind ~= "lib" and head.kind ~= "template" then
        return nil, refused(path, { message = ("declares a %s, %s is a %s"):format(kind, path, head.kind) })
      end
      if head and head.sha256 == crypto.sha256(source) then
        pushed[i] = { path = path, kind = head.kind, version = head.version, sha256 = head.sha256,
          changed = false }
        if seeded and head.seed_sha256 ~= head.sha256 then
          later[#later + 1] = { op = "update", coll = "kt_m_scripts", filter = { _id = path },
            update = { set = { seed_sha256 = head.sha256 } } }
        end
      else
        local doc, more = version_ops(path, source, kind, head, who, seeded)
        pushed[i] = { path = path, kind = kind, version = doc.version, sha256 = doc.sha256, changed = true }
        for _, op in ipairs(more) do
          ops[#ops + 1] = op
        end
      end
    end
    if #ops > 0 then
      ops[#ops + 1] = { op = "update", coll = "kt_m_counters", filter = { _id = "scripts" },
        update = { inc = { value = 1 } }, upsert = true }
    end
    for _, op in ipairs(later) do
      ops[#ops + 1] = op
    end
    for _, op in ipairs(who.ops and who.ops(pushed) or {}) do
      ops[#ops + 1] = op
    end
    if #ops == 0 then
      return pushed
    end
    local done
    done, err = places.master():commit(ops)
    if done then
      return pushed
    elseif err.code ~= "conflict" and err.code ~= "already_exists" then
      return nil, err
    end
    -- Someone else pushed at the same time: check against what is there now.
  end
  return nil, { code = "conflict", message = "the scripts change too fast", retryable = true }
end

--- Push one script.
---@param path string
---@param source string
---@param principal table
---@param options {note: string?, req: table?, ops: (fun(pushed: scripts.Pushed[]): table[])?}?
---@return scripts.Pushed? pushed, table? err
function M.push(path, source, principal, options)
  options = options or {}
  local pushed, err = M.activate({ [path] = source },
    { principal = principal, note = options.note, req = options.req, ops = options.ops })
  return pushed and pushed[1], err
end

return M
