--- kontor secret: the secrets of a service, and the key that they are sealed under. Through its admin
--- socket, else in the store itself, under its lock. A value is read from standard input; the command
--- line is seen by everybody on the machine, and kept by shells.
local admin = require "lib.admin"
local edit = require "kt.edit"
local json = require "json"
local offline = require "domain.offline"
local options = require "lib.options"
local value = require "value"

--- More than any value has; what is longer is not read.
local BYTES = 65536

local of_project = { "project", "ID", "of this project", default = "of the whole: for all projects" }
local one = { { "NAME", "what it is called: letters, digits, '.', '_' and '-'" } }

local verbs = {
  { "set", {
    usage = "kontor secret set NAME [--project ID]", arguments = one, options = { of_project }, secret = true,
    after = "The value is read from standard input, without the end of its last line; at a terminal it is asked for, and\n"
      .. "not shown. It is never printed again.",
  } },
  { "list", { usage = "kontor secret list [--project ID]", options = { of_project } } },
  { "rm", { usage = "kontor secret rm NAME [--project ID]", arguments = one, options = { of_project } } },
  { "rotate", {
    usage = "kontor secret rotate", options = {},
    after = "Seals all secrets, of the whole and of every project, under a new key; with KONTOR_MASTER_KEY under the one that\n"
      .. "it holds, with that of before in KONTOR_MASTER_KEY_OLD. What is cut off goes on when it is called again.",
  } },
}

local function tell(...) io.stderr:write("kontor secret: ", ...) io.stderr:write("\n") end

local function say(err)
  for _, e in ipairs(err.errors or {}) do
    tell(e.pointer == "/value" and "the value" or e.parameter == "name" and "NAME" or "the request", " ", e.message)
  end
  if not (err.errors and err.errors[1]) then tell(err.message or err.code) end
  return 1
end

-- The handlers of the routes, called as a request would call them.
local function by_store(handler, body, id, project_id)
  return offline.with_master(function()
    local secret = require "domain.secret"
    local ctx = { req = { headers = {} }, params = { name = id }, query = { limit = 500 }, principal = offline.principal(),
      route = { operation_id = "secret" } }
    if project_id then
      local err
      ctx.params.project_id = project_id
      ctx.project, err = require("domain.project").open(project_id)
      if not ctx.project then return nil, err end
    end
    if body then
      local checked
      ctx.body, checked = require("http.schema").check(secret.types.value, body, "create", { principal = ctx.principal })
      if #checked.errors > 0 then return nil, { code = "validation_failed", errors = checked.errors } end
    end
    local result, err = handler(secret)(ctx)
    if not result then return nil, err end
    return result.body and json.decode(result.body) or {}
  end)
end

local function base(project_id)
  return project_id and "/projects/" .. admin.escape(project_id) .. "/secrets" or "/master/secrets"
end

-- What is missing is said in the words of the command line.
local function missing(err, id, project_id)
  if err.code ~= "not_found" then return err end
  local of = project_id and " of the project " .. project_id or ""
  return { message = id and ("there is no secret " .. id .. of) or "there is no project " .. project_id }
end

local function valid_project(id)
  if not id or require("http.types").project_id.match(id) then return true end
  tell("'", id, "' is no id of a project")
end

local run = {}

local function read_value()
  local typed, err = edit.secret "Value: "
  if typed ~= false then return typed, err end
  local text = io.stdin:read(BYTES + 1)
  if text and #text > BYTES then return nil, { message = ("the value is longer than %d bytes"):format(BYTES) } end
  return text and (text:gsub("\r?\n$", ""))
end

function run.set(values)
  local id, project_id = values[1], values.project
  local secret = require "domain.secret"
  if not secret.valid_name(id) then
    return say { errors = { { parameter = "name", message = "must match " .. secret.types.name.pattern } } }
  end
  local text, err = read_value()
  if not text then
    tell(err and err.message or "there is no value on standard input")
    return 1
  end
  if not value.is_text(text) then
    tell "the value is not UTF-8 text"
    return 1
  end
  local done
  done, err = admin.ask("PUT", base(project_id) .. "/" .. admin.escape(id), { value = text })
  if not done and not err then
    done, err = by_store(function(s) return s.put end, { value = text }, id, project_id)
  end
  if not done then return say(missing(err, nil, project_id)) end
  io.stdout:write(id, " is set\n")
  return 0
end

function run.list(values)
  local rows, cursor = {}, nil
  repeat
    local page, err = admin.ask("GET", base(values.project) .. "?limit=500" .. (cursor and "&cursor=" .. cursor or ""))
    if not page and not err then page, err = by_store(function(s) return s.all end, nil, nil, values.project) end
    if not page then return say(missing(err, nil, values.project)) end
    for _, row in ipairs(page.data) do rows[#rows + 1] = row end
    cursor = page.page.next_cursor ~= json.null and page.page.next_cursor
  until not cursor
  local format = "%-40s  %-18s  %7s  %-20s  %s\n"
  if #rows > 0 then io.stdout:write(format:format("NAME", "KEY", "VERSION", "UPDATED", "BY")) end
  local printable = require "lib.printable"
  for _, row in ipairs(rows) do
    io.stdout:write(format:format(row.name, row.key_id, ("%d"):format(row.version), row.updated_at:sub(1, 19) .. "Z",
      (printable.text(row.updated_by))))
  end
  if #rows == 0 then tell "there is no secret" end
  return 0
end

function run.rm(values)
  local id, project_id = values[1], values.project
  local done, err = admin.ask("DELETE", base(project_id) .. "/" .. admin.escape(id))
  if not done and not err then done, err = by_store(function(s) return s.delete end, nil, id, project_id) end
  if not done then return say(missing(err, id, project_id)) end
  io.stdout:write(id, " is deleted\n")
  return 0
end

function run.rotate()
  local report, err = admin.ask("POST", "/master/secret-key/rotate", {})
  if not report and not err then
    report, err = offline.with_master(function() return require("domain.secret_key").rotate(offline.principal()) end)
  end
  if not report then return say(err) end
  if report.resumed then tell "went on with a rotation that had been cut off" end
  for _, one_failed in ipairs(report.failed) do
    local name, project_id = one_failed.name, one_failed.project_id
    tell(name ~= json.null and name or "?", project_id ~= json.null and " of the project " .. project_id or "", ": ", one_failed.message)
  end
  io.stdout:write(("%d sealed anew; the key is %s\n"):format(report.resealed, report.key_id))
  return #report.failed == 0 and 0 or 1
end

return function(args)
  local verb, values = options.verb("secret", args, verbs)
  if not verb then return values end
  if not valid_project(values.project) then return 1 end
  return run[verb](values)
end
