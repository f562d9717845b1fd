--- What a document has under a name: nil for null, as for what is absent.
local null = require("json").null

---@generic T
---@param v T|userdata|nil
---@return T|nil
return function(v)
  if v == null then return nil end
  return v
end
