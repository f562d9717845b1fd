-- What a handler returns: {status, headers, body}. The dispatcher sends it.

local json = require "json"

local M = {}

---@class kontor.Answer
---@field status integer
---@field headers table<string,string>
---@field body? string
---@field streamed? boolean the handler has answered by itself

local json_type = "application/json"

---@param status integer
---@param text string JSON
---@param headers? table<string,string>
---@return kontor.Answer
function M.text(status, text, headers)
  headers = headers or {}
  headers["Content-Type"] = headers["Content-Type"] or json_type
  return {status = status, headers = headers, body = text}
end

---@param status integer
---@param doc table
---@param headers? table<string,string>
function M.doc(status, doc, headers) return M.text(status, json.encode(doc), headers) end

---@param location string
---@param text string JSON of the new document
---@param version? integer
function M.created(location, text, version)
  return M.text(201, text, {Location = location, ETag = version and M.etag(version)})
end

---@param version integer
---@return string
function M.etag(version) return ('"v%d"'):format(version) end

---A page of a list.
---@param text string JSON array
---@param next_cursor string|nil
---@param limit integer
function M.page(text, next_cursor, limit)
  local cursor = next_cursor and '"' .. next_cursor .. '"' or "null"
  return M.text(200, ('{"data":%s,"page":{"next_cursor":%s,"limit":%d}}'):format(text, cursor, limit))
end

M.streamed = {streamed = true}

return M
