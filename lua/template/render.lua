--- template.render inside a script VM: renders what the host found and compiled (door/template.lua).
local errors = require "template.errors"
local runtime = require "template.runtime"

---@param prompt table answer of the call template.load
---@param variables table over the prompt's own defaults
---@return string text, integer chars
return function(prompt, variables)
  local chunks, values = {}, {}
  for _, chunk in ipairs(prompt.chunks) do
    chunks[chunk.id] = assert(load(chunk.source, "=" .. chunk.id))
  end
  for name, default in pairs(prompt.defaults) do
    values[name] = default
  end
  for name, value in pairs(variables) do
    values[name] = value
  end
  for _, name in ipairs(prompt.required) do
    if values[name] == nil then
      error(errors.at(prompt.prompt_id, nil, "the variable '" .. name .. "' is required"), 0)
    end
  end
  local text = runtime.render(chunks, prompt.prompt_id, values, prompt.undefined ~= "default")
  local _, chars = text:gsub("[^\128-\191]", "")
  return text, chars
end
