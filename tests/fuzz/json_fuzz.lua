-- JSON: a text is refused with a place, or means the same after it is written and read again, also
-- through the blob of the door.
local json = require "json"
local value = require "value"

return function(bytes)
  local v, err = json.decode(bytes)
  if v == nil then
    assert(err.code == "invalid_json" and type(err.message) == "string", "an error without code")
    assert(err.line >= 1 and err.column >= 0, "an error without a place")
    return
  end
  local text = json.encode(v)
  local again, problem = json.decode(text)
  assert(again ~= nil, problem and problem.message)
  assert(json.encode(again) == text, "it changes when written again")
  local spaced = json.encode(v, { indent = 2 })
  assert(json.encode((json.decode(spaced))) == text, "indented it means something else")
  -- A blob's own document is the first of its 64 levels: the deepest JSON text is one too deep for it.
  local held, blob = pcall(value.encode, v)
  if not held then
    assert(blob.code == "validation_failed" and blob.message:find "levels", tostring(blob.message))
    return
  end
  assert(value.encode((value.decode(blob))) == blob, "the blob changes")
  assert(value.encode((json.decode((value.json(blob))))) == blob or text:find "%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d",
    "the blob's JSON means something else")
end
