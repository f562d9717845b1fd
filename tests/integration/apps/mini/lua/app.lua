--- The smallest app: what the tests of the supervisor need of one, and nothing of the real one.
local ffi = require "ffi"
local http = require "kt.http"
local task = require "kt.task"

ffi.cdef "int getpid(void);"

local M = {}

local routes = {
  ["/pid"] = function(req) req:respond(200, {}, tostring(ffi.C.getpid())) end,
  ["/slow"] = function(req)
    task.sleep(tonumber(req.query) or 1)
    req:respond(200, {}, tostring(ffi.C.getpid()))
  end,
  ["/analyst"] = function(req)
    local child = assert(require("kt.analyst").start { job = { tables = {}, rules = {} } })
    task.defer(function() child:close() end)
    child:next()
    child:next() -- comes never: until the client goes away
  end,
  ["/block"] = function() while true do end end, -- a compiled loop: nothing in the process can stop it
}

function M.start(ctx)
  local broken = io.open(ctx.home .. "/broken")
  if broken then return nil, { code = "internal", message = "broken on purpose" } end
  local server, err = http.serve {
    fd = ctx.listen_fd,
    via = "tcp",
    handler = function(req)
      local route = routes[req.path]
      if not route then return req:respond(404, {}, "no") end
      return route(req)
    end,
  }
  if not server then return nil, err end
  ctx.drain(function(seconds)
    server:drain(seconds)
    server:close()
  end)
  return true
end

return M
