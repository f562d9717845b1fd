-- POST /master/setup/erp-defaults: brings the shipped agent (template and prompts) into master data,
-- and gives the default project its instance. Sent again it changes only what differs.
--
-- agents/<agent>/agent.lua returns {agent = {fields of an AgentTemplate}, prompts = {{fields of a
-- SystemPrompt, file = "prompt.j2"}}}; `file` is read from the same folder and becomes `template`.

local agent = require "domain.agent"
local answer = require "http.answer"
local config = require "kt.config"
local file = require "kt.file"
local instance = require "domain.instance"
local json = require "json"
local problem = require "http.problem"
local project = require "domain.project"
local prompt = require "domain.prompt"
local schema = require "http.schema"
local T = require "http.types"
local versions = require "domain.versions"

local M = {}

local agent_id = "erp-exception-management"
local ref = T.object("SetupRef", {{"type", T.str()}, {"id", T.str()}})

M.types = {
  setup = T.object("SetupErpDefaults", {}),
  done = T.object("SetupResult", {{"created", T.list(ref)}, {"updated", T.list(ref)}, {"unchanged", T.int(0)}}),
}

---The instance that stands for a template in the default project.
---@param id string agent_id
function M.default_instance_id(id) return "inst_legacy_" .. id end

-- Lists of the shipped file are arrays also when they are empty.
local function as_json(ty, v)
  if type(v) ~= "table" or getmetatable(v) == json.array_mt then return v end
  if ty.kind == "list" then
    local out = {}
    for i, x in ipairs(v) do out[i] = as_json(ty.item, x) end
    return json.array(out)
  end
  local out = {}
  if v.type == "array" and type(v.default) == "table" then json.array(v.default) end
  for k, x in pairs(v) do
    local f = ty.by_name and ty.by_name[k]
    out[k] = f and as_json(f[2], x) or (type(x) == "table" and #x > 0 and json.array(x)) or x
  end
  return out
end

local function shipped(home)
  local dir = home .. "/agents/" .. agent_id
  local source, err = file.read(dir .. "/agent.lua")
  if not source then return nil, err end
  local chunk = assert(loadstring(source, "@agents/" .. agent_id .. "/agent.lua"))
  local decl = setfenv(chunk, {})()
  for _, p in ipairs(decl.prompts) do
    if p.file then
      p.template, err = file.read(dir .. "/" .. p.file)
      if not p.template then return nil, err end
      p.file = nil
    end
  end
  return decl
end

local function checked(ctx, kind, doc)
  local plain, result = schema.check(kind.type, as_json(kind.type, doc), "create", {principal = ctx.principal})
  if not plain then
    local e = result.errors[1]
    return nil, problem.err("internal", ("the shipped %s: %s %s"):format(kind.kind, e.pointer, e.message))
  end
  return plain
end

-- What a PUT would compare: everything that is not ours to set.
local function content(ty, plain)
  local out = {}
  for _, f in ipairs(ty.fields) do
    if not f.ro and not f.immutable then out[f[1]] = plain[f[1]] end
  end
  return out
end

---Bring one document to the given content.
local function bring(ctx, kind, db, plain, id, done)
  if kind.check then
    local errors, err = kind.check(ctx, plain, db)
    if err then return nil, err end
    if errors and errors[1] then
      return nil, problem.err("internal", ("the shipped %s: %s %s"):format(kind.kind, errors[1].pointer, errors[1].message))
    end
  end
  local before, err = db:find_one(kind.coll, {_id = id})
  if err then return nil, err end
  local ops, list
  if not before then
    list, ops = done.created, versions.create_ops(kind, versions.first(kind, plain, ctx.principal), ctx.principal, ctx.req)
  elseif schema.equal(content(kind.type, plain), content(kind.type, schema.to_plain(kind.type, before))) then
    done.unchanged = done.unchanged + 1
    return true
  else
    local after = versions.following(kind, before, plain, ctx.principal)
    list, ops = done.updated, versions.replace_ops(kind, before, after, ctx.principal, ctx.req)
  end
  local ok
  ok, err = db:commit(ops)
  if not ok then return nil, err end
  list[#list + 1] = {type = kind.audit, id = id}
  return true
end

---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.erp_defaults(ctx)
  local decl, err = shipped(M.home)
  if not decl then return nil, err end
  local master = project.master()
  local done = {created = json.array{}, updated = json.array{}, unchanged = 0}
  for _, p in ipairs(decl.prompts) do
    local plain
    plain, err = checked(ctx, prompt.kind, p)
    if not plain then return nil, err end
    local ok
    ok, err = bring(ctx, prompt.kind, master, plain, plain.prompt_id, done)
    if not ok then return nil, err end
  end
  local plain
  plain, err = checked(ctx, agent.kind, decl.agent)
  if not plain then return nil, err end
  local ok
  ok, err = bring(ctx, agent.kind, master, plain, plain.agent_id, done)
  if not ok then return nil, err end
  local default
  default, err = project.open(config.get("DEFAULT_PROJECT_ID"))
  if not default then return nil, err end
  local id = M.default_instance_id(agent_id)
  local there
  there, err = default.db:find_one(instance.kind.coll, {_id = id}, {projection = {"_id"}})
  if err then return nil, err end
  if there then
    -- Its settings are the project's own business.
    done.unchanged = done.unchanged + 1
  else
    local made
    made, err = checked(ctx, instance.kind, {agent_id = agent_id, name = decl.agent.name})
    if not made then return nil, err end
    made.instance_id, made.project_id = id, default.id
    ok, err = bring(ctx, instance.kind, default.db, made, id, done)
    if not ok then return nil, err end
  end
  return answer.doc(200, json.ordered(done, {"created", "updated", "unchanged"}))
end

return M
