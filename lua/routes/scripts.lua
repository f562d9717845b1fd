-- Scripts of master data: pushing one. What is checked and what a run takes is scripts/registry.lua's.

local answer = require "http.answer"
local problem = require "http.problem"
local registry = require "scripts.registry"
local T = require "http.types"

local path_type = {kind = "str", max = 200, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
  match = registry.valid_path, example = "lib%2Fexample.lua", id = true}

local push_type = T.object("ScriptPush", {
  {"source", T.text(registry.SOURCE_BYTES), required = true},
  {"note", T.str{max = 2000}, nullable = true},
})

local pushed_type = T.object("Script", {
  {"path", T.str()}, {"kind", T.enum{"route", "template", "workflow", "tool", "rule", "mapping", "lib"}},
  {"version", T.int(1)}, {"sha256", T.hash}, {"changed", T.bool, doc = "false: this was the version already"},
})

-- A script that is refused is the client's fault, with its place.
local function refused(err)
  if err.code ~= "script_error" then return err end
  return problem.err("script_error", registry.describe(err), {errors = {{pointer = "/source", code = "invalid", message = err.message}}})
end

local function push(ctx)
  local note = ctx.body.note
  local pushed, err = registry.push(ctx.params.path, ctx.body.source, ctx.principal,
    {note = type(note) == "string" and note or nil, req = ctx.req})
  if not pushed then return nil, refused(err) end
  return answer.doc(200, pushed)
end

return {
  {method = "PUT", path = "/api/v1/master/scripts/{path}", operation_id = "pushScript", role = "author", tag = "scripts",
    summary = "Check a script and make it the version that the next runs take", params = {path = path_type},
    body = push_type, example = {source = "return {}", note = "an example"},
    answers = {[200] = {type = pushed_type}}, handler = push},
}
