-- Tools.

local crud = require "routes.crud"
local json = require "json"
local lists = require "domain.lists"
local T = require "http.types"
local tool = require "domain.tool"

return crud.routes{
  kind = tool.kind, name = "Tool", base = "/api/v1/master/tools", id_type = T.tool_id, role = "author",
  tag = "tools", what = "a tool", sort = lists.by_id,
  example = {tool_id = "ticket-search", name = "Tickets", description = "Finds tickets by their text.", kind = "http",
    http = {method = "GET", url = "https://tickets.example/api/search?q={text}&limit={limit}"},
    input_schema = {type = "object", required = json.array{"text"}, additionalProperties = false,
      properties = {text = {type = "string", minLength = 1}, limit = {type = "integer", minimum = 1, maximum = 100}}}},
  replace_example = {name = "Tickets", description = "Finds tickets by their text.", kind = "http",
    http = {method = "GET", url = "https://tickets.example/api/v2/search?q={text}",
      headers = {Authorization = "env:KONTOR_TOOL_TICKETS"}}, timeout_seconds = 20},
  example_id = "ticket-search",
}
