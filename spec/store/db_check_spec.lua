-- kontor db check: its exit codes and what it notices.
local crypto = require "kt.crypto"
local file = require "kt.file"
local proc = require "kt.proc"
local store = require "kt.store"
local value = require "value"

local kontor = os.getenv "KONTOR" or "build/kontor"

describe("kontor db check", function()
  local dir

  before_each(function()
    dir = "/tmp/kontor-check-" .. crypto.uuid7()
    assert(store.open { dir = dir, sync_normal = true })
    assert(store.create "ktern-project-p")
    local db = store.database "ktern-project-p"
    assert(db:ensure_index("kt_p_events", { name = "at", keys = { { "at", 1 } } }))
    for _, chunk in ipairs { { 1, 3 }, { 4, 1 }, { 5, 7 } } do
      assert(db:insert("kt_p_events", { _id = ("exec_1_a:%010d"):format(chunk[1]), n = chunk[2], at = value.date(0) }))
    end
    assert(db:insert("kt_p_executions", { _id = "exec_1_a", status = "completed", token = 1 }))
    assert(db:insert("kt_p_results", { _id = "exec_1_a:1" }))
  end)
  after_each(function()
    store.close()
    file.remove(dir)
  end)

  local function check(...)
    local child = assert(proc.spawn {
      argv = { kontor, "db", ... }, env = { KONTOR_DATA_DIR = dir, PATH = os.getenv "PATH" },
    })
    local lines = {}
    while true do
      local line, err = child:next(60)
      assert(not err, err and err.message)
      if not line then break end
      lines[#lines + 1] = line
    end
    local code = child:status().exit
    child:close()
    return code, table.concat(lines, "\n")
  end

  it("passes what is whole, also while it is open", function()
    local code, text = check "check"
    assert.equal("ktern-project-p: ok, 5 documents", text)
    assert.equal(0, code)
  end)
  it("leaves other programs' databases alone, unless it is given one", function()
    assert(store.create "someone-else")
    local _, text = check "check"
    assert.equal("ktern-project-p: ok, 5 documents", text)
    local code = check("check", "someone-else")
    assert.equal(0, code)
  end)
  it("notices a gap in the events", function()
    assert(store.database("ktern-project-p"):delete_one("kt_p_events", { _id = "exec_1_a:0000000004" }))
    local code, text = check("check", "ktern-project-p")
    assert.equal(1, code)
    assert.truthy(text:find("exec_1_a goes on with event 5 after 3", 1, true), text)
  end)
  it("knows events that their execution says are being deleted", function()
    local db = store.database "ktern-project-p"
    assert(db:delete_one("kt_p_events", { _id = "exec_1_a:0000000001" }))
    local code, text = check "check"
    assert.equal(1, code)
    assert.truthy(text:find("exec_1_a goes on with event 4 after 0", 1, true), text)
    assert(db:update_one("kt_p_executions", { _id = "exec_1_a" }, { set = { events_deleted_at = value.date(1) } }))
    assert.equal(0, (check "check"))
    -- The execution goes last.
    assert(db:delete_one("kt_p_executions", { _id = "exec_1_a" }))
    assert.equal(1, (check "check"))
  end)
  it("notices a run that ended without a result", function()
    assert(store.database("ktern-project-p"):update_one("kt_p_executions", { _id = "exec_1_a" }, { inc = { token = 1 } }))
    local code, text = check "check"
    assert.equal(1, code)
    assert.truthy(text:find("exec_1_a:2 has ended without a result", 1, true), text)
  end)
  it("notices a damaged file", function()
    local db = store.database "ktern-project-p"
    for i = 1, 200 do assert(db:insert("kt_p_audit_log", { _id = "a" .. i, s = ("x"):rep(300) })) end
    store.close()
    local f = assert(io.open(dir .. "/ktern-project-p.db", "r+b"))
    f:seek("set", 4096 * 8)
    f:write(("Z"):rep(4096 * 6))
    f:close()
    local code, text = check "check"
    assert.equal(1, code)
    assert.truthy(text:find("BROKEN", 1, true), text)
    assert(store.open { dir = dir })
  end)
  it("refuses what it cannot do", function()
    assert.equal(1, (check("check", "nothing")))
    assert.equal(2, (check("check", "../x")))
    assert.equal(2, (check "vacuum"))
    assert.equal(0, (check "--help"))
  end)
end)
