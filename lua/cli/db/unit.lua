--- kontor db backup|backups|restore|clone|export|import|erase: a project as a unit. Each but export and the list is a job
--- that this process works at, beside a service or without one; what a killed one leaves is finished by the next
--- worker.
local config = require "kt.config"
local crypto = require "kt.crypto"
local ffi = require "ffi"
local jobs = require "domain.job"
local lease = require "engine.lease"
local migrations = require "domain.migrations"
local offline = require "domain.offline"
local rfc3339 = require "http.rfc3339"
local store = require "kt.store"
local task = require "kt.task"
local unit = require "units.copy"

local function tell(...) io.stderr:write("kontor db: ", ...) io.stderr:write("\n") end

local function say(err)
  for _, e in ipairs(err.errors or {}) do tell(e.message) end
  if not (err.errors and err.errors[1]) then tell(err.message or err.code) end
  return 1
end

local function master_ready()
  local name = config.get("MASTER_DATABASE_NAME")
  local ok, err = store.create(name)
  if not ok and err.code ~= "already_exists" then return nil, err end
  return migrations.run("master", store.database(name))
end

ffi.cdef "char *getcwd(char *buf, size_t size);"

local function working_folder()
  local buf = ffi.new("char[4096]")
  assert(ffi.C.getcwd(buf, 4096) ~= nil, "the working folder is gone")
  return ffi.string(buf)
end

local function none() end

-- Begin a job and work at it, as a worker would: its row says who does, and goes when nothing is left to do.
local function carry_out(begin, ctx)
  local epoch = crypto.uuid7()
  local ok, err = lease.start { slot = 0, epoch = epoch, command = true }
  if not ok then return nil, err end
  local holding = task.detach(lease.hold, none, none)
  jobs.own(epoch)
  local job, ops = begin(ctx)
  local result
  if not job then err = ops
  else
    ok, err = require("lib.places").master():commit(ops)
    if ok then result, err = jobs.work(job)
    else
      if err.index then err.coll = ops[err.index].coll end
      err = unit.taken(err)
    end
  end
  holding:cancel()
  holding:join()
  lease.stop()
  return result, err
end

local function print_backup(one)
  local documents = 0
  for _, c in ipairs(one.collections) do documents = documents + c.count end
  print(("%s  %s  %12.0f bytes  %9d documents"):format(one._id, tostring(one.created_at):sub(1, 19) .. "Z", one.bytes, documents))
end

local run = {}

function run.export(values)
  local summary, err = require("domain.unit_files").export(values[1], values[2])
  if not summary then return nil, err end
  local documents, bytes = 0, 0
  for _, c in ipairs(summary.collections) do
    documents, bytes = documents + c.documents, bytes + c.bytes
  end
  print(("%s: %d documents in %d collections, %d bytes, as of %s"):format(values[2], documents, #summary.collections, bytes,
    rfc3339.format(summary.at.ms)))
  return true
end

function run.backups(values)
  local list, err = require("domain.backup").list(values[1])
  if not list then return nil, err end
  for _, one in ipairs(list) do print_backup(one) end
  if #list == 0 then tell("there is no backup of ", values[1]) end
  return true
end

function run.backup(_, ctx)
  local backup = require "domain.backup"
  local done, err = carry_out(unit.backup, ctx)
  if not done then return nil, err end
  local one
  one, err = backup.read(ctx.params.project_id, done.backup_id)
  if not one then return nil, err end
  print_backup(one)
  print(backup.folder(ctx.params.project_id, one._id))
  return true
end

local function warn(done)
  for _, text in ipairs(done.warnings or {}) do tell(text) end
end

function run.restore(values, ctx)
  ctx.body = { backup_id = values[2] }
  local done, err = carry_out(unit.restore, ctx)
  if not done then return nil, err end
  warn(done)
  print(("%s is as it was in %s; it was out of use for %.1f s"):format(values[1], values[2], done.out_of_use_seconds))
  return true
end

function run.clone(values, ctx)
  ctx.body = { project_id = values[2], project_name = values.name, without_secrets = values["without-secrets"] or false }
  local done, err = carry_out(unit.clone, ctx)
  if not done then return nil, err end
  warn(done)
  print(values[2] .. " is a clone of " .. values[1])
  return true
end

run["import"] = function(values, ctx)
  ctx.query = { without_secrets = values["without-secrets"] or false }
  -- Whoever goes on with it may work in another folder.
  local folder = values[2]:find("^/") and values[2] or working_folder() .. "/" .. values[2]
  local done, err = carry_out(function() return unit.import(ctx, folder) end, ctx)
  if not done then return nil, err end
  warn(done)
  print(values[1] .. " is imported")
  return true
end

function run.erase(values, ctx)
  ctx.body = { confirm = values.confirm }
  local done, err = carry_out(require("units.erase").begin, ctx)
  if not done then return nil, err end
  print(values[1] .. " is erased")
  return true
end

---@param verb string
---@param values table of the command line
---@return integer exit code
return function(verb, values)
  local ok, err = migrations.load(config.home())
  -- What only reads changes nothing, migrations neither.
  if ok and verb ~= "export" and verb ~= "backups" then ok, err = master_ready() end
  if ok then
    ok, err = run[verb](values, { principal = offline.principal(), req = {}, query = {}, params = { project_id = values[1] } })
  end
  if ok then return 0 end
  if err.code == "not_found" and not err.message then err = { message = "there is no project " .. values[1] } end
  return say(err)
end
