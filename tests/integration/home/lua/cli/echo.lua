--- A small service for the tests of HTTP and WebSocket: KONTOR_HOME=tests/integration/home
--- `kontor echo FD [name=value …]` serves on the inherited listening socket FD until a request for
--- /quit, prints "ready" first and what is left of the process last.
local http = require("kt.http")
local task = require("kt.task")
local json = require("json")

local routes = {}
local aborted = 0
local server
local quit = task.event()

local function problem(req, err)
  local status = ({
    body_too_large = 413, request_timeout = 408, malformed_request = 400, upgrade_required = 426,
  })[err.code] or 500
  req:respond(status, { ["content-type"] = "application/problem+json" }, json.encode({ code = err.code }))
end

routes["/hello"] = function(req)
  req:respond(200, { ["content-type"] = "text/plain" }, "hello")
end

-- What the handler sees of the request, with its body.
routes["/echo"] = function(req)
  local body, err = req:body(1000000)
  if not body then
    return problem(req, err)
  end
  local headers = {}
  for name, value in pairs(req.headers) do
    headers[name] = value
  end
  req:respond(200, { ["content-type"] = "application/json" }, json.encode({
    method = req.method, target = req.target, path = req.path, query = req.query, id = req.id,
    version = req.version, via = req.via, remote = req.remote, headers = headers, body = body,
  }))
end

-- The body comes back while it comes in.
routes["/stream"] = function(req)
  req:start(200, { ["content-type"] = "application/octet-stream" })
  while true do
    local chunk, err = req:read()
    if err then
      return
    end
    if not chunk then
      break
    end
    if not req:write(chunk) then
      return
    end
  end
  req:finish()
end

-- Counts the body without keeping it.
routes["/count"] = function(req)
  local n = 0
  while true do
    local chunk, err = req:read()
    if err then
      return problem(req, err)
    end
    if not chunk then
      break
    end
    n = n + #chunk
  end
  req:respond(200, nil, tostring(n))
end

-- ?n bytes in blocks, as the client takes them.
routes["/download"] = function(req)
  local left = tonumber(req.query)
  local block = string.rep("d", 65536)
  req:start(200, { ["content-length"] = left })
  while left > 0 do
    local part = left < #block and block:sub(1, left) or block
    if not req:write(part) then
      return
    end
    left = left - #part
  end
  req:finish()
end

routes["/sleep"] = function(req)
  local ok, err = task.sleep(tonumber(req.query))
  if not ok and err.code == "cancelled" then
    aborted = aborted + 1
    return
  end
  req:respond(200, nil, "slept")
end

routes["/aborted"] = function(req)
  req:respond(200, nil, tostring(aborted))
end

routes["/fail"] = function()
  error("on purpose")
end

routes["/nothing"] = function() end

routes["/half"] = function(req)
  req:start(200)
  req:write("half")
end

-- A handler that answers without looking at the body, and goes on after the answer.
routes["/early"] = function(req)
  req:respond(403, nil, "no")
  task.sleep(0.05)
  assert(not req:respond(200, nil, "twice"))
end

routes["/cookies"] = function(req)
  req:respond(200, { ["set-cookie"] = { "a=1", "b=2" } }, "")
end

-- WebSockets. What became of the last one is at /last.
local last = ""
local open = setmetatable({}, { __mode = "k" })

local function upgrade(req, options)
  last = ""
  local ws, err = req:upgrade(options)
  if ws then
    open[ws] = true
    return ws
  end
  local headers = {}
  if err.code == "upgrade_required" then
    headers = { ["sec-websocket-version"] = "13", upgrade = "websocket" }
  end
  req:respond(err.code == "upgrade_required" and 426 or 400, headers, err.code)
end

routes["/ws"] = function(req)
  local ws = upgrade(req)
  if ws then
    assert(ws:send("hello"))
    assert(ws:wait_closed())
    local ok, err = ws:send("more")
    last = tostring(ok) .. " " .. err.code
  end
end

-- ?n messages of different sizes, then 1000.
routes["/ws/count"] = function(req)
  local ws = upgrade(req)
  for i = 1, ws and tonumber(req.query) or 0 do
    local ok, err = ws:send(i .. " " .. string.rep("x", i % 10 == 0 and 70000 or i % 50))
    if not ok then
      last = err.code
      return
    end
  end
  if ws then
    ws:close(1000, "that was all")
  end
end

-- Sends until the client is too slow.
routes["/ws/flood"] = function(req)
  local ws = upgrade(req, { queue = 262144, send_time = 0.3 })
  local n, block = 0, string.rep("f", 65536)
  while ws do
    local ok, err = ws:send(block)
    if not ok then
      last = err.code
      ws:close(1013, "last_seq=" .. n)
      return ws:wait_closed()
    end
    n = n + 1
  end
end

-- Pings every 0.1 s.
routes["/ws/ping"] = function(req)
  local ws = upgrade(req, { ping_time = 0.1 })
  if ws then
    last = "open"
    ws:wait_closed()
    last = "dead"
  end
end

routes["/ws/close"] = function(req)
  local ws = upgrade(req)
  if ws then
    ws:send("bye")
    ws:close(tonumber(req.query), "on purpose")
    ws:wait_closed()
  end
end

-- Nobody closes it: the collector does.
routes["/ws/forgotten"] = function(req)
  upgrade(req)
end

routes["/last"] = function(req)
  req:respond(200, nil, last)
end

routes["/counts"] = function(req)
  collectgarbage()
  req:respond(200, nil, json.encode(task.counts()))
end

routes["/quit"] = function(req)
  req:respond(200, nil, "bye")
  quit:signal()
end

local function handler(req)
  local route = routes[req.path]
  if not route then
    return req:respond(404, nil, "nothing at " .. req.path)
  end
  return route(req)
end

return function(args)
  local limits = {}
  for i = 2, #args do
    local name, value = args[i]:match("^(%w+_?%w*)=([%d.]+)$")
    limits[name] = tonumber(value)
  end
  local via = os.getenv("ECHO_VIA")
  server = assert(http.serve({ fd = tonumber(args[1]), handler = handler, limits = limits, via = via }))
  io.stdout:write("ready\n")
  io.stdout:flush()
  quit:wait()
  for ws in pairs(open) do
    ws:close(1001, "the service drains")
  end
  local empty = server:drain(5)
  server:close()
  task.sleep(0.05)
  collectgarbage()
  collectgarbage()
  local counts = task.counts()
  -- This task and its sleep are not left over.
  io.stdout:write(json.encode({ drained = empty, tasks = counts.tasks - 1, ops = counts.ops, handles = counts.handles }), "\n")
  return 0
end
