-- Steps of tests/bench/loads_units.py, on the engine that the environment names; each prints lines "what value…" for it.
-- UNITS_STEP:
--   fill    a project of UNITS_MB in UNITS_DIR: instances, runs with events and results, findings' files
--   round   export, verify, import into another database, which is dropped; into UNITS_DIR/export
--   pause   the commits of a steady writer, with no export going on and with one
local clock = require "kt.clock"
local crypto = require "kt.crypto"
local file = require "kt.file"
local json = require "json"
local store = require "kt.store"
local task = require "kt.task"
local value = require "value"

local STEP, DIR, MB = os.getenv "UNITS_STEP", os.getenv "UNITS_DIR", tonumber(os.getenv "UNITS_MB")
local FROM, TO = "ktern-project-bench", "ktern-project-copy"
local BASE, DAY = 1700000000000, 86400000

local function id(prefix, i) return ("%s_%032x"):format(prefix, i) end

local make = {}

function make.kt_p_agent_instances(i)
  return { _id = id("inst", i), project_id = "bench", version = 1, agent_id = "erp-exception-management", agent_ref = "latest",
    name = "Exceptions of plant " .. i, description = ("What is late, missing or paid twice. "):rep(4), archived = false,
    custom_settings = { rule_params = { ["INV-001.horizon_days"] = "14" }, categories = json.array { "invoices", "inventory" } },
    created_by = "dev", updated_by = "dev", created_at = value.date(BASE + i), updated_at = value.date(BASE + i) }
end

function make.kt_p_executions(i)
  local at = value.date(BASE + i * 60000)
  return { _id = id("exec_7", i), project_id = "bench", instance_id = id("inst", i % 500), agent_id = "erp-exception-management",
    status = "completed", stop_reason = "done", token = 1, attempt = 1, created_by = "dev", created_at = at, started_at = at,
    finished_at = at, due_at = at, last_seq = 60, input_data = { prompt = ("Look at the week again. "):rep(8) },
    snapshot = { bundle = ("0"):rep(64), agent_version = 3, instance_version = 1, door = 1 }, duration_ms = i % 60000 }
end

-- 20 events packed one behind the other, as the journal keeps them.
function make.kt_p_events(i)
  local records = {}
  for s = 1, 20 do
    records[s] = value.encode { a = BASE + i, t = "tool.completed", s = s, d = { call_id = s, tool_id = "step", ok = true,
      result = { rows = i + s, text = "looked at invoices of the week" } } }
  end
  return { _id = ("%s:%010d"):format(id("exec_7", math.floor(i / 3)), i % 3 * 20 + 1), n = 20, at = value.date(BASE + i),
    events = value.binary(table.concat(records)) }
end

function make.kt_p_results(i)
  local findings = json.array {}
  for n = 1, 12 do
    findings[n] = { rule_id = "INV-00" .. n % 7, key = ("item-%d-%d"):format(i, n), severity = n % 3 == 0 and "high" or "low",
      amount = tostring(i * n) .. ".25", evidence = { item = "A-" .. i, center = "C" .. n, on_hand = i % 90, days = n } }
  end
  return { _id = id("exec_7", i) .. ":1", execution_id = id("exec_7", i), project_id = "bench", instance_id = id("inst", i % 500),
    agent_id = "erp-exception-management", status = "completed", partial = false, output = { findings = findings },
    metrics = { duration_ms = i % 60000, steps = 3, findings = 12 }, created_at = value.date(BASE + i),
    day = os.date("!%Y-%m-%d", (BASE + i * DAY / 50) / 1000), duration_bucket = i % 90, findings_count = 12 }
end

function make.kt_p_audit_log(i)
  return { _id = id("aud", i), at = value.date(BASE + i), actor = "user-" .. i % 40, actor_name = "Somebody", role = "admin",
    via = "key", action = "execution.create", target_type = "execution", target_id = id("exec_7", i), outcome = "ok",
    request_id = ("%032x"):format(i), address = "10.0.0.1", count = 1 }
end

-- Collections with their share of the documents; blobs are half of the bytes.
local SHARES = { { "kt_p_agent_instances", 0.05 }, { "kt_p_executions", 1 }, { "kt_p_events", 3 }, { "kt_p_results", 1 },
  { "kt_p_audit_log", 1 } }
local RUN_BYTES = 11500 -- about what one run with its share of all of these has

local function fill(db)
  for _, name in ipairs { "0002_project", "0003_executions" } do
    local migration = assert(loadfile("migrations/" .. name .. ".lua"))()
    if migration.scope == "project" then assert(migration.run(db)) end
  end
  local runs = math.floor(MB * 1e6 / 2 / RUN_BYTES)
  for _, share in ipairs(SHARES) do
    local n = math.ceil(runs * share[2])
    for first = 1, n, 500 do
      local docs = {}
      for i = first, math.min(first + 499, n) do docs[#docs + 1] = make[share[1]](i) end
      assert(db:insert(share[1], docs))
    end
  end
  local row = crypto.random(1000)
  local table_of = row:rep(8000) -- 8 MB, as a table's columns
  for i = 1, math.ceil(MB * 1e6 / 2 / #table_of) do assert(db:blob_put(("%08d"):format(i) .. table_of)) end
end

local function measured(what, bytes, run)
  local cpu, start = os.clock(), clock.monotonic()
  local got, err = run()
  if not got then error(what .. ": " .. tostring(err and err.message)) end
  print(("%s %.3f %.3f %d"):format(what, os.clock() - cpu, clock.monotonic() - start, bytes or 0))
  return got
end

local function round(db)
  local folder = DIR .. "/export"
  if file.stat(folder) then assert(file.remove(folder)) end
  assert(file.mkdir(folder))
  local summary = measured("export", 0, function() return db:export(folder) end)
  local bytes = 0
  for _, c in ipairs(summary.collections) do bytes = bytes + c.bytes end
  print("bytes " .. bytes)
  measured("verify", bytes, function() return db:verify(folder, summary) end)
  assert(store.create(TO))
  measured("import", bytes, function() return store.database(TO):import(folder, summary) end)
  assert(store.drop(TO))
end

-- One commit every 5 ms for so many seconds; how long each took, in ms.
local function commits(db, seconds, what)
  local took, until_ = {}, clock.monotonic() + seconds
  while clock.monotonic() < until_ do
    local start = clock.monotonic()
    assert(db:insert("pause", { what = what, text = ("x"):rep(300) }))
    took[#took + 1] = (clock.monotonic() - start) * 1000
    assert(task.sleep(0.005))
  end
  table.sort(took)
  print(("%s %.2f %.2f %.2f %d"):format(what, took[math.ceil(#took * 0.5)], took[math.ceil(#took * 0.99)], took[#took], #took))
end

local function pause(db)
  local stop, exports = false, 0
  commits(db, 1, "warm")
  commits(db, 6, "alone")
  local other = task.spawn(function()
    while not stop do
      local folder = DIR .. "/pause"
      assert(file.mkdir(folder))
      assert(db:export(folder))
      assert(file.remove(folder))
      exports = exports + 1
    end
  end)
  commits(db, 6, "beside")
  stop = true
  other:join()
  print("exports " .. exports)
end

describe("units", function()
  it(STEP, function()
    assert(store.open { dir = DIR, main = "ktern-masterdb" })
    assert(store.create(FROM))
    local db = store.database(FROM);
    ({ fill = fill, round = round, pause = pause })[STEP](db)
    store.close()
  end)
end)
