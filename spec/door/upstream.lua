--- A service on loopback for specs of tools: counts what reaches it, behaves as it is told.

local http = require "kt.http"
local http_tool = require "door.http_tool"
local json = require "json"
local support = require "engine.support"

local M = { seen = {}, behave = {} }

--- `M.behave[name]`, of the first part of the path, answers with req:respond; without one the request
--- is shown.
function M.start()
  local fd, port = http.listen "127.0.0.1:0"
  M.port = port
  M.server = http.serve { fd = fd, via = "tcp", handler = function(req)
    local body = req:body(1048576)
    local name = req.path:match("^/([a-z]+)")
    table.insert(M.seen, { method = req.method, path = req.path, headers = req.headers, body = body })
    -- Nothing of a test is left, no kept connection either.
    local asked = { path = req.path, query = req.query, headers = req.headers, respond = function(_, status, headers, text)
      headers.connection = "close"
      req:respond(status, headers, text)
    end }
    if M.behave[name] then return M.behave[name](asked, body) end
    asked:respond(200, { ["content-type"] = "application/json" },
      json.encode { path = req.path, query = req.query or json.null, body = body ~= "" and json.decode(body) or json.null })
  end }
end

--- Before each test.
function M.clear() M.seen, M.behave = {}, {} end

function M.stop() M.server:close() end

--- The hooks of a describe whose tests run tools against this service, with a started engine.
---@param allowed (fun(): string)? what KONTOR_EGRESS_ALLOW is; default: this machine
---@param prepare fun()? called before each test, before the engine starts
function M.hooks(allowed, prepare)
  local policy, spec = http_tool.egress, getfenv(2) -- busted gives its functions to specs alone
  spec.setup(function()
    support.open()
    M.start()
  end)
  spec.before_each(function()
    http_tool.egress = allowed or function() return "127.0.0.1" end
    M.clear()
    if prepare then prepare() end
    support.start()
  end)
  spec.after_each(support.stop)
  spec.teardown(function()
    http_tool.egress = policy
    M.stop()
    support.close()
  end)
end

--- Requests that have come for a path.
---@param path string
---@return integer
function M.count(path)
  local n = 0
  for _, one in ipairs(M.seen) do
    if one.path == path then n = n + 1 end
  end
  return n
end

local number = 0

--- The fields of a tool of kind http; path below this service.
---@param method string
---@param path string
---@param more table? further fields; headers are those of the request
function M.tool(method, path, more)
  number = number + 1
  local fields = { tool_id = ("tool-%d-%d"):format(M.port, number), name = "T", description = "Does.", kind = "http",
    http = { method = method, url = "http://127.0.0.1:" .. M.port .. path, headers = more and more.headers } }
  for k, v in pairs(more or {}) do
    if k ~= "headers" then fields[k] = v end
  end
  return fields
end

--- A workflow in which T1, T2… are the tools' ids.
---@param tools table[]
---@param body string of its function run(run, input)
---@return string source
function M.workflow(tools, body)
  local names = {}
  for i, t in ipairs(tools) do names[i] = ("local T%d = %q"):format(i, t.tool_id) end
  return table.concat(names, "\n") .. "\nworkflow{ name = 'w', run = function(run, input)\n" .. body .. "\nend }"
end

return M
