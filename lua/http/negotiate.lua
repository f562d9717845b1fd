-- Content negotiation: which of a route's media types the client takes, and what it sends.

local M = {}

---@param header string
---@return table[] ranges {type, subtype, q}
local function ranges(header)
  local list = {}
  for item in header:gmatch("[^,]+") do
    local main, sub = item:match("^%s*([^/%s;]+)/([^%s;]+)")
    local q = tonumber(item:match(";%s*[qQ]%s*=%s*([%d.]+)")) or 1
    if main then list[#list + 1] = {main = main:lower(), sub = sub:lower(), q = q} end
  end
  return list
end

---The best of the offered media types, nil when none is acceptable. The first offered wins a tie.
---@param accept string|nil the Accept header
---@param offered string[]
---@return string|nil
function M.best(accept, offered)
  if not accept or accept == "*/*" or accept == offered[1] or accept:match("^%s*$") then return offered[1] end
  local best, best_q = nil, 0
  local wanted = ranges(accept)
  for _, media in ipairs(offered) do
    local main, sub = media:match("^([^/]+)/([^;%s]+)")
    local q, exact = 0, -1
    for _, r in ipairs(wanted) do
      local level = r.main == main and r.sub == sub and 2 or r.main == main and r.sub == "*" and 1
        or r.main == "*" and r.sub == "*" and 0 or nil
      if level and level > exact then q, exact = r.q, level end
    end
    if q > best_q then best, best_q = media, q end
  end
  return best
end

---Whether a Content-Type header leaves the text as UTF-8: no charset, or that one.
---@param content_type string|nil
---@return boolean
function M.utf8(content_type)
  local charset = content_type and content_type:match(";%s*[cC][hH][aA][rR][sS][eE][tT]%s*=%s*\"?([^%s;\"]*)")
  charset = charset and charset:lower()
  return charset == nil or charset == "utf-8" or charset == "utf8" or charset == "us-ascii"
end

---The media type of a Content-Type header in lower case, without parameters.
---@param content_type string|nil
---@return string|nil
function M.media(content_type)
  return content_type and (content_type:match("^%s*([^;%s]+)") or ""):lower() or nil
end

return M
