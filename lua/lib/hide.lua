--- Takes secret values out of texts that others will see.

local M = {}

--- A shorter value, or part of one, is left: it would be found in texts that have nothing to do with it.
M.LEAST = 8

local function escaped(text)
  return (text:gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0"))
end

--- As a string of JSON has it.
local function in_json(text) return (text:gsub('[\\"/]', "\\%0")) end

--- What a text shows of a value: all of it, or one of its words, as of "Bearer x".
local function parts(value)
  local list = { value }
  for word in value:gmatch("%S+") do list[#list + 1] = word end
  return list
end

--- A function that puts `[name]` where a text holds a value.
---@param values table<string, string> by the name that is shown instead
---@return fun(text: string): string
function M.of(values)
  local found, seen = {}, {}
  for name, value in pairs(values) do
    for _, part in ipairs(parts(value)) do
      for _, form in ipairs { part, in_json(part), (in_json(part):gsub("\\/", "/")) } do
        if #part >= M.LEAST and not seen[form] then
          seen[form] = true
          found[#found + 1] = { pattern = escaped(form), by = ("[" .. name .. "]"):gsub("%%", "%%%%"), bytes = #form }
        end
      end
    end
  end
  -- The whole before its parts.
  table.sort(found, function(a, b) return a.bytes > b.bytes end)
  return function(text)
    for _, one in ipairs(found) do text = text:gsub(one.pattern, one.by) end
    return text
  end
end

return M
