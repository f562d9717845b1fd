-- How long the queries behind usage, dashboard and audit take over N rows each of usage, results and
-- audit in one project (api.md 8). Not a test: it asserts nothing about time. Run it with
--   BENCH_N=1000000 BENCH_DIR=/var/tmp/bench build/kontor test tests/bench/store_dashboard_spec.lua
-- BENCH_DIR with data of an earlier run is used again. tests/bench/store_dashboard.py asks a
-- MongoDB-wire server the same.
local clock = require "kt.clock"
local store = require "kt.store"
local value = require "value"

local N = tonumber(os.getenv "BENCH_N") or 20000
local DIR = os.getenv "BENCH_DIR" or "/tmp/kontor-bench"
local DAYS, AGENTS, MODELS, ACTORS = 365, 12, 8, 40
local BASE = 1700000000000

local function day_of(ms) return os.date("!%Y-%m-%d", ms / 1000) end
local function at_of(i) return BASE + math.floor(i * (DAYS * 86400000 / N)) end

local function usage(i)
  local ms = at_of(i)
  local day = day_of(ms)
  return {
    _id = ("exec_7_%032x:%d"):format(i, 4), execution_id = ("exec_7_%032x"):format(i), instance_id = "inst_" .. i % 30,
    agent_id = "agent-" .. i % AGENTS, at = value.date(ms), day = day, hour = os.date("!%Y-%m-%dT%H", ms / 1000), kind = "model",
    provider = "p" .. i % 3, model_config_id = "m" .. i % MODELS, model = "model-" .. i % MODELS, input_tokens = i % 5000,
    cache_read_tokens = 0, cache_write_5m_tokens = 0, cache_write_1h_tokens = 0, output_tokens = i % 900, reasoning_tokens = 0,
    requests = 1, searches = 0, cost_nano = i % 7 == 0 and require("json").null or i * 13 % 900000, cost_source = "prices",
    duration_ms = i % 9000, ok = true,
  }
end

local STATUS = { "completed", "completed", "completed", "completed", "completed", "completed", "completed", "failed", "cancelled", "timed_out" }
local function result(i)
  local ms = at_of(i)
  local status = STATUS[i % 10 + 1]
  return {
    _id = ("exec_7_%032x:1"):format(i), execution_id = ("exec_7_%032x"):format(i), project_id = "bench", instance_id = "inst_" .. i % 30,
    agent_id = "agent-" .. i % AGENTS, status = status, stop_reason = status == "completed" and "done" or "error", partial = false,
    output = { summary = ("text "):rep(20), as_of = "2024-01-01" }, metrics = { duration_ms = i % 60000, queued_ms = 1, steps = 3, model_calls = 1,
      tool_calls = 2, input_tokens = 5, output_tokens = 6, cost_nano = 1000, rows = 10, findings = i % 40 },
    error = status == "failed" and { code = "code_" .. i % 6, message = "it failed" } or nil, created_at = value.date(ms), day = day_of(ms),
    duration_bucket = math.floor(8 * math.log(i % 60000 + 1) / math.log(2)), findings_count = i % 40,
    counts = { invoices = { high = i % 5, low = i % 3 }, procurement = { high = i % 2, low = i % 9 } },
  }
end

local function audit(i)
  local ms = at_of(i)
  return {
    _id = ("aud_%032x"):format(i), audit_id = ("aud_%032x"):format(i), at = value.date(ms), actor = "user-" .. i % ACTORS, actor_name = "Somebody",
    role = "admin", via = "key", action = "execution." .. (i % 3 == 0 and "create" or "cancel"), target_type = "execution",
    target_id = ("exec_7_%032x"):format(i), outcome = "ok", code = require("json").null, request_id = ("%032x"):format(i), count = 1,
  }
end

local function fill(db, coll, make)
  if db:count(coll, {}, 1) > 0 then return end
  local start = clock.monotonic()
  for first = 1, N, 1000 do
    local docs = {}
    for i = first, math.min(first + 999, N) do docs[#docs + 1] = make(i) end
    assert(db:insert(coll, docs))
  end
  print(("%-34s %8.0f rows/s"):format("fill " .. coll, N / (clock.monotonic() - start)))
end

local function timed(name, fn)
  local best, n = math.huge, 0
  for _ = 1, 3 do
    local start = clock.monotonic()
    local rows, err = fn()
    assert(not err or type(err) ~= "table", err and err.message)
    best, n = math.min(best, clock.monotonic() - start), type(rows) == "table" and #rows or 1
  end
  print(("%-34s %9.1f ms %7d rows"):format(name, best * 1000, n))
end

describe("queries over " .. N .. " rows", function()
  it("are timed", function()
    assert(store.open { dir = DIR, sync_normal = true, main = "ktern-project-bench" })
    assert(store.create "ktern-project-bench")
    local db = store.database "ktern-project-bench"
    local migration = assert(loadfile "migrations/0002_project.lua")()
    assert(migration.run(db))
    fill(db, "kt_p_token_usage", usage)
    fill(db, "kt_p_results", result)
    fill(db, "kt_p_audit_log", audit)

    local last = at_of(N)
    local sums = { calls = { "count" }, input_tokens = { "sum", "input_tokens" }, cache_read_tokens = { "sum", "cache_read_tokens" },
      cache_write_5m_tokens = { "sum", "cache_write_5m_tokens" }, cache_write_1h_tokens = { "sum", "cache_write_1h_tokens" },
      output_tokens = { "sum", "output_tokens" }, reasoning_tokens = { "sum", "reasoning_tokens" }, searches = { "sum", "searches" },
      cost_nano = { "sum", "cost_nano" } }
    local ranges = { { "30 days", 30 }, { "a year", 366 } }
    for _, range in ipairs(ranges) do
      local label, days = range[1], range[2]
      local since = { "day", "gte", day_of(last - (days - 1) * 86400000) }
      local function g(coll, keys, values, extra)
        return db:group(coll, { filter = { since, { "day", "lte", day_of(last) }, extra }, keys = keys, values = values })
      end
      timed("usage by day, agent, model; " .. label, function()
        return g("kt_p_token_usage", { day = "day", agent_id = "agent_id", model = "model" }, sums)
      end)
      timed("usage totals; " .. label, function() return g("kt_p_token_usage", {}, sums) end)
      timed("usage of one agent by day; " .. label, function()
        return g("kt_p_token_usage", { day = "day" }, sums, { "agent_id", "eq", "agent-3" })
      end)
      timed("results by day and status; " .. label, function()
        return g("kt_p_results", { day = "day", status = "status" }, { n = { "count" }, findings = { "sum", "findings_count" } })
      end)
      timed("results by day and bucket; " .. label, function()
        return g("kt_p_results", { day = "day", duration_bucket = "duration_bucket" }, { n = { "count" }, max = { "max", "metrics.duration_ms" } })
      end)
      timed("results by agent and status; " .. label, function()
        return g("kt_p_results", { agent_id = "agent_id", status = "status" }, { n = { "count" } })
      end)
      timed("errors by code; " .. label, function()
        return g("kt_p_results", { code = "error.code" }, { n = { "count" }, last_at = { "max", "created_at" } }, { "status", "eq", "failed" })
      end)
      timed("findings by category; " .. label, function()
        return g("kt_p_results", {}, { a = { "sum", "counts.invoices.high" }, b = { "sum", "counts.invoices.low" },
          c = { "sum", "counts.procurement.high" }, d = { "sum", "counts.procurement.low" } })
      end)
    end
    timed("usage by hour; 2 days", function()
      return db:group("kt_p_token_usage", { filter = { { "day", "gte", day_of(last - 86400000) } }, keys = { hour = "hour" }, values = sums })
    end)
    timed("latest 20 results", function()
      return db:find("kt_p_results", {}, { sort = { { "day", -1 } }, limit = 20 })
    end)
    local newest = { sort = { { "at", -1 }, { "_id", -1 } }, limit = 50 }
    local function page(filter, after)
      newest.after = after
      return db:find("kt_p_audit_log", filter, newest)
    end
    timed("audit, first page", function() return page({}) end)
    local middle = at_of(math.floor(N / 2))
    timed("audit, a page in the middle", function() return page({}, { value.date(middle), "aud_f" }) end)
    timed("audit of one actor", function() return page { actor = "user-7" } end)
    timed("audit of one actor and action", function() return page { actor = "user-7", action = "execution.create" } end)
    timed("audit of one action, 1 day", function()
      return page { { "at", "gte", value.date(middle) }, { "at", "lt", value.date(middle + 86400000) }, action = "execution.create" }
    end)
    timed("audit of one target (no index)", function() return page { target_id = ("exec_7_%032x"):format(math.floor(N / 3)) } end)
    store.close()
  end)
end)
