-- Projects as units: backups, restoring, cloning, erasing, and the jobs that do it.

local backup = require "domain.backup"
local job = require "domain.job"
local lists = require "domain.lists"
local T = require "http.types"
local unit = require "units.copy"
local unit_erase = require "units.erase"

local base = "/api/v1/projects/{project_id}"
local params = {project_id = T.project_id}
local one = {project_id = T.project_id, backup_id = backup.types.id}
local accepted = {[202] = {type = job.types.job, doc = "A job does it", headers = {"Location"}}}

-- All are `master`: the project itself need not be in use.
return {
  {method = "POST", path = base .. "/backups", operation_id = "createBackup", role = "admin", tag = "projects", master = true,
    summary = "Make a backup of a project, as it is at one point of time", params = params, body = unit.types.backup, example = {},
    answers = accepted, handler = unit.handler(unit.backup)},
  {method = "GET", path = base .. "/backups", operation_id = "listBackups", role = "admin", tag = "projects", master = true,
    summary = "List the backups of a project", params = params, query = lists.query(),
    answers = {[200] = {list = backup.types.backup, doc = "A page, newest first"}}, handler = backup.page},
  {method = "GET", path = base .. "/backups/{backup_id}", operation_id = "getBackup", role = "admin", tag = "projects", master = true,
    summary = "Get a backup", params = one, answers = {[200] = {type = backup.types.backup}}, handler = backup.get},
  {method = "POST", path = base .. "/restore", operation_id = "restoreProject", role = "admin", tag = "projects", master = true,
    summary = "Put the data of a project back to a backup; it is out of use meanwhile", params = params, body = unit.types.restore,
    example = {backup_id = "bak_01980000000070008000000000000000"}, answers = accepted, handler = unit.handler(unit.restore)},
  {method = "POST", path = base .. "/clone", operation_id = "cloneProject", role = "admin", tag = "projects", master = true, whole = true,
    summary = "Make a new project with the data of this one", params = params, body = unit.types.clone,
    example = {project_id = "acme-corp-copy", project_name = "Acme, a copy"}, answers = accepted, handler = unit.handler(unit.clone)},
  {method = "POST", path = base .. "/erase", operation_id = "eraseProject", role = "admin", tag = "projects", master = true, whole = true,
    summary = "Erase a project with all its data, files and backups", params = params, body = unit_erase.types.erase,
    example = {confirm = "acme-corp-2024"}, answers = accepted, handler = unit.handler(unit_erase.begin)},
  {method = "GET", path = "/api/v1/master/jobs/{job_id}", operation_id = "getJob", role = "admin", tag = "projects",
    summary = "Get a job", params = {job_id = job.types.id}, answers = {[200] = {type = job.types.job}}, handler = job.get},
}
