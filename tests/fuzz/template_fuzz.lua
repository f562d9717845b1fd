-- Templates: a text compiles or is refused with line and column inside it; what compiles renders
-- twice alike, or fails with a code. (Rendering is bounded by its VM elsewhere; here by short texts.)
local runtime = require "template.runtime"
local template = require "template"

local variables = {
  name = "Ada", n = 3, x = 1.5, yes = true, empty = "", items = { "a", "b", "c" },
  user = { name = "Bob", tags = { "x", "y" } }, html = "<b>&</b>",
}
local includes = { other = "other {{ name }}", loop = "{% include 'loop' %}" }

-- Lines as Jinja2 counts them: CR LF, CR and LF end one.
local function lines(text)
  local _, n = text:gsub("\r\n", "\n"):gsub("[\r\n]", "")
  return n + 1
end

return function(bytes)
  -- Loops over large ranges are the script VM's budget to stop.
  if bytes:find "range" or bytes:find "%d%d%d%d" or #bytes > 2000 then return end
  local chunks, err = template.compile_all("main", function(id)
    if id == "main" then return bytes end
    return includes[id]
  end)
  if not chunks then
    assert(err.code == "template_error", tostring(err.code) .. ": " .. tostring(err.message))
    local at = err.details
    assert(at and at.line >= 1 and at.line <= lines(bytes) and at.column >= 1, "a place outside the text")
    return
  end
  local loaded = {}
  for id, chunk in pairs(chunks) do
    loaded[id] = assert(loadstring(chunk.source, "=" .. id))
  end
  local function render(strict)
    local ok, result = pcall(runtime.render, loaded, "main", variables, strict)
    if not ok then
      assert(type(result) == "table" and result.code == "template_error",
        type(result) == "table" and result.message or tostring(result))
      return "error: " .. result.message
    end
    return result
  end
  assert(render(true) == render(true), "it renders differently the second time")
  render(false)
end
