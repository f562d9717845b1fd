--- template.render, the host's part: finds the prompt at the run's version and compiles it; the
--- script VM renders, under the run's budgets, and tells what it rendered.
---
--- Only which versions were used is recorded: they never change, so the compiled text is made again
--- from them when a run is rebuilt.

local given = require "lib.given"
local json = require "json"
local places = require "lib.places"
local prompts = require "domain.prompt"
local template = require "template"
local value = require "value"
local versions = require "domain.versions"

local M = {}

--- Compiled prompts kept in this worker, by their versions.
local KEPT = 100
local compiled, order = {}, {}

local function resolve(id, ref)
  local doc, err = versions.resolve(prompts.kind, places.master(), id, ref)
  if not doc and err.code == "not_found" then
    return nil
  end
  return doc, err
end

local function key_of(answer)
  return value.hash(value.encode { answer.prompt_id, answer.version, answer.includes })
end

--- Chunks of a prompt; `pinned` names the versions of all that it includes, or is filled in.
local function compile(answer, first, pinned)
  local key = pinned and key_of(answer)
  if key and compiled[key] then
    return compiled[key]
  end
  local chunks, err = template.compile_all(answer.prompt_id, function(id)
    if id == answer.prompt_id then
      return first.template
    end
    local doc, failed = resolve(id, pinned and tostring(pinned[id]) or "latest")
    if doc and not pinned then
      answer.includes[id] = doc.version
    end
    return doc and doc.template, failed
  end)
  if not chunks then
    return nil, err
  end
  local list = {}
  for id, chunk in pairs(chunks) do
    list[#list + 1] = { id = id, source = chunk.source }
  end
  table.sort(list, function(a, b)
    return a.id < b.id
  end)
  key = key or key_of(answer)
  if not compiled[key] then
    order[#order + 1] = key
    if #order > KEPT then
      compiled[table.remove(order, 1)] = nil
    end
    compiled[key] = list
  end
  return list
end

--- The ref that a call means: the system prompt's pinned version unless it names another one.
local function ref_of(run, id, ref)
  local pinned = run.execution.snapshot.prompt_version
  if id == run.system_prompt_id and type(pinned) == "number" and (ref == nil or ref == run.system_prompt_ref) then
    return tostring(pinned)
  end
  return ref or "latest"
end

--- Names that must be given: required, and without a default.
local function required_of(prompt)
  local names = {}
  for _, variable in ipairs(prompt.variables) do
    if variable.required == true and given(variable.default) == nil then
      names[#names + 1] = variable.name
    end
  end
  return json.array(names)
end

--- template.load(prompt_id, ref) -> {prompt_id, version, sha256, undefined, defaults, chunks}
M.load = { class = "read" }

---@param call door.Call
function M.load.run(call)
  local id, ref = call.args.prompt_id, call.args.ref
  if type(ref) ~= "string" then
    ref = nil
  end
  if type(id) ~= "string" or #id > 64 or ref and #ref > 64 then
    return nil, { code = "validation_failed", message = "template.render wants the id of a prompt", retryable = false }
  end
  local prompt, err = resolve(id, ref_of(call.run, id, ref))
  if not prompt then
    return nil, err or { code = "not_found", message = "there is no prompt '" .. id .. "'", retryable = false }
  end
  local defaults = {}
  for _, variable in ipairs(prompt.variables) do
    defaults[variable.name] = given(variable.default) -- one without is undefined until it is given
  end
  local answer = {
    prompt_id = id,
    version = prompt.version,
    sha256 = value.hash(value.encode(prompt.template)),
    undefined = prompt.undefined,
    defaults = defaults,
    includes = {},
  }
  local chunks
  chunks, err = compile(answer, prompt)
  if not chunks then
    return nil, err
  end
  return answer
end

--- What the script gets for a recorded answer.
---@param answer table
---@return table? answer, table? err
function M.load.expand(answer)
  local first, err = resolve(answer.prompt_id, tostring(answer.version))
  local chunks
  if first then
    chunks, err = compile(answer, first, answer.includes)
    answer.required = required_of(first)
  end
  if not chunks then
    return nil, err or { code = "store_corrupt", message = "prompt " .. answer.prompt_id .. " is missing" }
  end
  answer.chunks = json.array(chunks)
  return answer
end

--- template.rendered({prompt_id, version, sha256, chars}) -> null
M.rendered = { class = "read" }

---@param call door.Call
function M.rendered.run(call)
  local what = call.args
  call.emit("prompt.rendered", {
    prompt_id = what.prompt_id, version = what.version, sha256 = what.sha256, chars = what.chars,
  })
  return nil
end

return M
