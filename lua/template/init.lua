--- Templates: Jinja2 text compiled to Lua.
---
--- Compiling is host work (the text is untrusted, its cost linear in its size); rendering is the
--- script's, inside its VM and budgets, by template/runtime.lua over the compiled chunks.
local compiler = require "template.compiler"
local errors = require "template.errors"
local filters = require "template.filters"

local M = {}

compiler.filters, compiler.tests = filters.names, filters.test_names

local MAX_BYTES = 256 * 1024
local MAX_TEMPLATES = 100 -- one prompt with all it includes

--- Modules that a script VM needs for rendering, in the order of their dependence.
M.runtime_modules = {
  "template.errors", "template.lexer", "template.values", "template.text", "template.tojson",
  "template.filters", "template.runtime",
  "template.render",
}

--- Compile one template.
---@param source string UTF-8, at most 256 KiB
---@param id string the prompt's id, for errors
---@return CompiledTemplate|nil, TemplateError?  code template_error with details.line and column
function M.compile(source, id)
  if #source > MAX_BYTES then
    return nil, errors.at(id, nil, ("a template has at most %d bytes"):format(MAX_BYTES))
  end
  local ok, result = pcall(compiler.compile, source)
  if ok then
    local loads, problem = loadstring(result.source, "=" .. id)
    if loads then
      return result
    end
    -- Lua's own limits (constants, jumps) are reached by size alone.
    return nil, errors.at(id, nil, ("the template is too large for one prompt, split it (%s)"):format(problem))
  end
  local err = errors.complete(result, id)
  if type(err) ~= "table" then
    error(err, 0) -- a mistake of ours
  end
  return nil, err
end

--- Compile a prompt and all that it includes.
---@param id string
---@param fetch fun(id: string): string|nil, table?  the text of a prompt, nil when there is none; may yield
---@return { source: string, includes: table[] }[]|nil chunks by id, TemplateError?
function M.compile_all(id, fetch)
  local chunks, queue, count = {}, { { name = id } }, 0
  while #queue > 0 do
    local wanted = table.remove(queue)
    if not chunks[wanted.name] then
      local source, fetch_err = fetch(wanted.name)
      if not source then
        if fetch_err then
          return nil, fetch_err
        elseif not wanted.optional then
          return nil, wanted.by and errors.at(wanted.by, wanted.pos, "there is no prompt '" .. wanted.name .. "' to include")
            or { code = "not_found", message = "there is no prompt '" .. id .. "'", retryable = false }
        end
      else
        count = count + 1
        if count > MAX_TEMPLATES then
          return nil, errors.at(id, nil, ("more than %d prompts are included"):format(MAX_TEMPLATES))
        end
        local compiled, err = M.compile(source, wanted.name)
        if not compiled then
          return nil, err
        end
        chunks[wanted.name] = compiled
        for _, include in ipairs(compiled.includes) do
          queue[#queue + 1] = { name = include.name, optional = include.optional, by = wanted.name,
            pos = include.pos }
        end
      end
    end
  end
  return chunks
end

return M
