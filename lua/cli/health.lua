--- kontor health [--ready]: does the running service answer? For the health checks of containers and units.
---
--- It asks over the admin socket of the data directory: the same whatever KONTOR_LISTEN says, and no key is needed.
local config = require "kt.config"
local fetch = require "kt.fetch"
local options = require "lib.options"

local line = {
  usage = "kontor health [--ready]",
  options = { { "ready", nil, "can it serve (GET /ready); else: is it alive (GET /health)" } },
  after = "Prints the answer. Exit code 0 when it is 200, 1 for any other and when no service runs.",
}
local TIMEOUT = 4 -- seconds; a health check of Docker has 5

return function(args)
  local values, code = options.read("health", args, line)
  if not values then return code end
  local socket = config.get("KONTOR_DATA_DIR") .. "/kontor.sock"
  local reply, err = fetch { method = "GET", unix = socket, timeout = TIMEOUT,
    url = "http://localhost" .. (values.ready and "/ready" or "/health") }
  if not reply then
    -- Who cannot be connected to is named by curl as the host of the URL, which says nothing here.
    io.stderr:write("kontor health: ", socket, ": ", err.code == "upstream_failed" and "no service answers" or err.message, "\n")
    return 1
  end
  io.stdout:write(reply.body, "\n")
  return reply.status == 200 and 0 or 1
end
