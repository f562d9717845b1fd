-- If-Match: optional on PUT; when sent it must hold the present version.

local answer = require "http.answer"
local problem = require "http.problem"

local M = {}

---Check the header's form and note it in the context.
---@param ctx kontor.Context
---@param errors kontor.FieldError[] appended to
function M.check_header(ctx, errors)
  local wanted = ctx.req.headers["if-match"]
  if not wanted or not ctx.route.if_match then return end
  for tag in (wanted .. ","):gmatch("%s*([^,]-)%s*,") do
    if not (tag == "*" or tag:find('^"[!#-~]*"$') or tag:find('^W/"[!#-~]*"$')) then
      errors[#errors + 1] = {header = "If-Match", code = "format", message = 'must be an ETag, as "v3"'}
      return
    end
  end
  ctx.if_match = wanted
end

---@param ctx kontor.Context
---@param version integer the present one
---@return true|nil
---@return kontor.Error|nil
function M.check(ctx, version)
  if not ctx.if_match then return true end
  for tag in (ctx.if_match .. ","):gmatch("%s*([^,]-)%s*,") do
    if tag == "*" or tag == answer.etag(version) then return true end
  end
  return nil, problem.err("version_mismatch", "The present version is " .. answer.etag(version) .. ".",
    {errors = {{header = "If-Match", code = "invalid", message = "is not the present version"}}})
end

return M
