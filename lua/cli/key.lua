--- kontor key: the API keys of a service. Through its admin socket, else in the store itself, under its lock.
local admin = require "lib.admin"
local json = require "json"
local offline = require "domain.offline"
local options = require "lib.options"
local printable = require "lib.printable"

local verbs = {
  { "create", {
    usage = "kontor key create --name NAME --role ROLE [--project ID]… [--expires TIME]",
    options = {
      { "name", "NAME", "whose it is", required = true },
      { "role", "ROLE", "viewer, operator, author or admin", required = true },
      { "project", "ID", "only this project; may be given again", many = true, default = "all, and master data" },
      { "expires", "TIME", "when it ends, as 2027-01-31 or 2027-01-31T12:00:00Z", default = "never" },
    },
    after = "The key is printed once, alone on standard output; from the first key on nobody is served without one.",
  } },
  { "list", { usage = "kontor key list", options = {} } },
  { "revoke", { usage = "kontor key revoke KEY_ID", arguments = { { "KEY_ID", "as kontor key list shows it" } }, options = {} } },
}

-- What the fields of the document are called on the command line.
local option_of = { name = "--name", role = "--role", projects = "--project", expires_at = "--expires" }

local function say(err)
  local faults = err.errors or {}
  if not faults[1] then
    io.stderr:write("kontor key: ", err.message or err.code, "\n")
  end
  for _, e in ipairs(faults) do
    io.stderr:write("kontor key: ", option_of[(e.pointer or ""):match("^/([%a_]+)")] or "the request", ": ", e.message, "\n")
  end
  return 1
end

-- The handlers of the routes, called as a request would call them.
local function by_store(method, path, body)
  return offline.with_master(function()
    local api_key = require "domain.api_key"
    local ctx = { req = { path = path, headers = {} }, params = {}, query = { limit = 500 }, principal = offline.principal(),
      route = { operation_id = "key" } }
    local handler = method == "GET" and api_key.list or api_key.create
    if method == "DELETE" then
      handler, ctx.params.key_id = api_key.revoke, path:match("([^/]+)$")
    elseif method == "POST" then
      local checked
      ctx.body, checked = require("http.schema").check(api_key.types.key, body, "create", { principal = ctx.principal })
      if #checked.errors > 0 then
        return nil, { code = "validation_failed", errors = checked.errors }
      end
    end
    local result, err = handler(ctx)
    if not result then return nil, err end
    return result.body and json.decode(result.body) or {}
  end)
end

local function ask(method, path, body)
  local doc, err = admin.ask(method, path, body)
  if not doc and not err then doc, err = by_store(method, path, body) end
  return doc, err
end

local run = {}

function run.create(values)
  local expires = values.expires
  if expires and #expires == 10 then expires = expires .. "T00:00:00Z" end
  local key, err = ask("POST", "/master/api-keys", { name = values.name, role = values.role,
    projects = values.project and json.array(values.project) or nil, expires_at = expires })
  if not key then return say(err) end
  io.stderr:write(key.key_id, ": ", key.role, " of ", key.projects[1] == "*" and "all projects" or table.concat(key.projects, ", "),
    ". Keep the key, it is not shown again:\n")
  io.stdout:write(key.api_key, "\n")
  return 0
end

function run.list()
  local rows, cursor = {}, nil
  repeat
    local page, err = ask("GET", "/master/api-keys" .. (cursor and "?cursor=" .. cursor or ""))
    if not page then return say(err) end
    for _, key in ipairs(page.data) do rows[#rows + 1] = key end
    cursor = page.page.next_cursor ~= json.null and page.page.next_cursor
  until not cursor
  local format = "%-36s  %-8s  %-24s  %-20s  %-10s  %s\n"
  if #rows > 0 then io.stdout:write(format:format("KEY_ID", "ROLE", "PROJECTS", "EXPIRES", "LAST USED", "NAME")) end
  for _, key in ipairs(rows) do
    io.stdout:write(format:format(key.key_id, key.role, table.concat(key.projects, ","),
      key.expires_at ~= json.null and key.expires_at:sub(1, 19) .. "Z" or "never",
      key.last_used_day ~= json.null and key.last_used_day or "never", (printable.text(key.name))))
  end
  if #rows == 0 then io.stderr:write("kontor key: there is no key\n") end
  return 0
end

function run.revoke(values)
  local id = values[1]
  if not id:find("^key_%x+$") then return say { message = "'" .. id .. "' is no KEY_ID (kontor key list shows them)" } end
  local done, err = ask("DELETE", "/master/api-keys/" .. id)
  if not done then return say(err.code == "not_found" and { message = "there is no key " .. id } or err) end
  io.stdout:write(id, " is revoked\n")
  return 0
end

return function(args)
  local verb, values = options.verb("key", args, verbs)
  if not verb then return values end
  return run[verb](values)
end
