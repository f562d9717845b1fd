-- For each file of migrations/: documents as a database of the version before it holds them, and what the
-- migration promises. migration_cases_spec.lua runs them; a migration without a case fails there.
--
--   documents  coll -> documents that are there before
--   adds       coll -> the indexes it makes there, "name key:direction…[ unique]"; {}: the collection alone
--   writes     coll -> fun(doc): what of a document is the same at every run. In other collections no byte may change,
--              and what was in these must still be there as it was.
--   changes    coll -> fun(doc): what a document that was there is now
--   holds      fun(db): what else is true then; raises when it is not (a module has the plain assert)

local json = require "json"
local value = require "value"

local day = 86400000
local function at(n) return value.date(1764000000000 + n * 1000) end

local function project(id, number)
  return {_id = id, number = number, version = 1, status = "active", project_name = "P " .. id, customer_name = "Ä C",
    description = "", created_by = "dev", created_at = at(number), updated_at = at(number), budgets = json.array{}, backup = json.null,
    quotas = {running = 20, storage_bytes = value.int64 "10737418240"}, settings = {currency = "EUR", langfuse = json.null},
    rule_params = {PRO = {tolerance = 0.05}}}
end

local function audit(n, target)
  return {_id = ("aud_%032x"):format(n), at = at(n), action = target .. ".create", actor = n % 2 == 0 and "dev" or "system", outcome = "ok",
    target_type = target, target_id = "t" .. n, count = 1, code = json.null, changes = json.array{{pointer = "/name", from = json.null, to = "x"}}}
end

local function instance(n)
  return {_id = ("inst_%032x"):format(n), agent_id = "erp-exception-management", agent_ref = "latest", name = "I" .. n, version = 1,
    created_at = at(n), updated_at = at(n), project_id = "acme", custom_settings = {}, tools = json.null, labels = {team = "a"}}
end

-- Queued, running, waiting and ended ones.
local function execution(n, status)
  return {_id = ("exec_2_%032x"):format(n), status = status, instance_id = instance(1)._id, agent_id = "erp-exception-management",
    created_at = at(n), due_at = status == "queued" and at(n + 60) or json.null, attempt = 1, last_seq = n, input_data = {n = n}}
end

local function result(n)
  return {_id = ("exec_2_%032x:1"):format(n), execution_id = ("exec_2_%032x"):format(n), instance_id = instance(1)._id, day = "2025-11-24",
    created_at = at(n), status = "completed", stop_reason = "done", output = {findings = json.array{}, total = 1.5}}
end

local function finding(n)
  return {_id = ("%s:k%d"):format(instance(1)._id, n), instance_id = instance(1)._id, rule_id = "PRO-00" .. n, severity = "high",
    first_seen_at = at(n), amount = value.int64 "12500000000"}
end

local function agent()
  return {_id = "erp-exception-management", name = "ERP", version = 2, created_at = at(1), updated_at = at(2), archived = false,
    tools = json.array{}, settings = {timeout = 900}}
end

local function list(n, make, ...)
  local out = {}
  for i = 1, n do out[i] = make(i, ...) end
  return out
end

-- More chunks than a page of the migration, of blobs with several.
local function chunks(n)
  return list(n, function(i)
    return {_id = ("%064x:%d"):format(math.floor(i / 3), i % 3), bytes = i, chunks = 3, data = value.binary(("x"):rep(i % 7))}
  end)
end

local function number(v) return tonumber(tostring(v)) end

local master = {
  kt_m_projects = {project("default", 1), project("acme", 2)}, kt_m_audit_log = list(5, audit, "project"),
  kt_m_counters = {{_id = "project_number", value = 2}},
}

return {
  ["0001_master.lua"] = {
    documents = master,
    adds = {
      kt_m_projects = {"number number:1 unique"}, kt_m_audit_log = {"newest at:-1 _id:-1", "actor actor:1 at:-1"}, kt_m_secrets = {},
    },
    writes = {kt_m_secrets = function(doc) return {doc._id, #doc.data} end},
    holds = function(db)
      local key = assert(db:find_one("kt_m_secrets", {_id = "system/cursor"})).data
      assert(#key == 64 and not key:find("%X"), key)
      local _, err = db:insert("kt_m_projects", project("other", 2))
      assert(err and err.code == "already_exists" and err.key == "number", "two projects have one number")
    end,
  },

  ["0002_project.lua"] = {
    documents = {kt_p_agent_instances = list(3, instance), kt_p_audit_log = list(3, audit, "agent_instance")},
    adds = {
      kt_p_agent_instances = {"newest created_at:-1 _id:-1"},
      kt_p_executions = {"newest created_at:-1 _id:-1", "status status:1 created_at:-1 _id:-1"},
      kt_p_results = {"execution execution_id:1", "day day:1"}, kt_p_token_usage = {"day day:1 agent_id:1 model:1"},
      kt_p_audit_log = {"newest at:-1 _id:-1", "actor actor:1 at:-1"},
    },
  },

  ["0003_executions.lua"] = {
    documents = {
      kt_p_agent_instances = list(2, instance), kt_p_results = list(4, result), kt_p_findings = list(3, finding),
      kt_p_executions = {execution(1, "completed"), execution(2, "running"), execution(3, "queued"), execution(4, "queued")},
    },
    adds = {kt_p_executions = {"due status:1 due_at:1"}, kt_p_findings = {"rule instance_id:1 rule_id:1"},
      kt_p_results = {"instance instance_id:1 created_at:-1"}},
  },

  ["0004_ready.lua"] = {
    documents = {
      kt_m_projects = master.kt_m_projects, kt_m_audit_log = master.kt_m_audit_log,
      kt_m_ready = {{_id = "acme", next_run_at = at(9), version = 3}, {_id = "default", next_run_at = at(1), version = 1}},
    },
    adds = {kt_m_ready = {"due next_run_at:1"}},
  },

  ["0005_scripts.lua"] = {
    documents = {
      kt_m_projects = master.kt_m_projects, kt_m_audit_log = master.kt_m_audit_log, kt_m_agents = {agent()},
      kt_m_versions = {{_id = "agent/erp-exception-management/2", kind = "agent", id = "erp-exception-management", version = 2, doc = agent()}},
    },
    adds = {kt_m_scripts = {}, kt_m_script_versions = {}, kt_m_counters = {}},
    writes = {
      kt_m_scripts = function(doc) return {doc._id, doc.version, doc.sha256, doc.seed_sha256, doc.created_by} end,
      kt_m_script_versions = function(doc) return {doc._id, doc.source} end,
      kt_m_versions = function(doc) return doc._id end,
      kt_m_counters = function(doc) return doc end,
      kt_m_audit_log = function(doc) return {doc.action, doc.target_id, doc.actor} end,
    },
    holds = function(db)
      for path, source in pairs(assert(require("scripts.seed").files(require("kt.config").home()))) do
        local head = assert(db:find_one("kt_m_scripts", {_id = path}), path)
        assert(head.version == 1 and head.sha256 == require("kt.crypto").sha256(source), path)
        assert(db:find_one("kt_m_script_versions", {_id = head.sha256}).source == source, path)
      end
    end,
  },

  ["0006_usage.lua"] = {
    documents = {
      kt_p_agent_instances = list(2, instance), kt_p_executions = {execution(1, "completed")}, kt_p_blobs = chunks(450),
      kt_p_datasets = list(7, function(i)
        return {_id = ("ds_%032x"):format(i), status = ({"open", "sealed", "archived"})[i % 3 + 1], revision = 1, created_at = at(i * day),
          tables = json.array{}, bytes = i}
      end),
    },
    adds = {kt_p_counters = {}},
    writes = {kt_p_counters = function(doc) return {doc._id, number(doc.storage_bytes), doc.datasets, doc.added, doc.removed} end},
    holds = function(db)
      local usage = db:find_one("kt_p_counters", {_id = "usage"})
      assert(number(usage.storage_bytes) == 450 * 451 / 2 and number(usage.datasets) == 5, json.encode(usage))
    end,
  },

  ["0007_collections.lua"] = {
    documents = {kt_m_projects = master.kt_m_projects, kt_m_agents = {agent()}, kt_m_tools = {{_id = "fetch", name = "F", version = 1}}},
    adds = {kt_m_mcps = {}, kt_m_system_prompts = {}, kt_m_model_configs = {}},
  },

  ["0008_project_settings.lua"] = {
    documents = {kt_m_projects = master.kt_m_projects, kt_m_audit_log = master.kt_m_audit_log},
    adds = {},
    changes = {kt_m_projects = function(doc)
      doc.settings.currency, doc.settings.log_level = json.null, json.null
      return doc
    end},
  },

  ["0009_jobs.lua"] = {
    documents = {kt_m_projects = master.kt_m_projects, kt_m_audit_log = master.kt_m_audit_log},
    adds = {kt_m_jobs = {"project project_id:1", "status status:1"}, kt_m_audit_log = {"target target_id:1 at:-1"}},
  },
}
