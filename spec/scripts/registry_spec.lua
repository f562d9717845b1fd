local bundle = require "scripts.bundle"
local places = require "lib.places"
local registry = require "scripts.registry"
local seed = require "scripts.seed"
local support = require "engine.support"

local GOOD = [[workflow { name = "a", run = function() return 1 end }]]

describe("a bundle's manifest", function()
  it("is the same text for the same set and reads back", function()
    local a, b = ("a"):rep(64), ("b"):rep(64)
    local text, sha = bundle.manifest { ["agents/x/workflow.lua"] = a, ["lib/z.lua"] = b }
    assert.equal("kontor-bundle 1\nagents/x/workflow.lua " .. a .. "\nlib/z.lua " .. b .. "\n", text)
    assert.equal(sha, select(2, bundle.manifest { ["lib/z.lua"] = b, ["agents/x/workflow.lua"] = a }))
    assert.same({ ["agents/x/workflow.lua"] = a, ["lib/z.lua"] = b }, bundle.parse(text))
    assert.same({}, bundle.parse((bundle.manifest {})))
    for _, broken in ipairs { "", "x\n", "kontor-bundle 2\n", "kontor-bundle 1\nno hash\n" } do
      local hashes, err = bundle.parse(broken)
      assert.is_nil(hashes)
      assert.equal("store_corrupt", err.code)
    end
  end)
end)

describe("the registry of scripts", function()
  local number = 0
  local function fresh()
    number = number + 1
    return "agents/registry-" .. number .. "/"
  end

  setup(support.open)
  teardown(support.close)

  it("keeps heads, versions and immutable sources", function()
    local path = fresh() .. "workflow.lua"
    local first = assert(registry.push(path, GOOD, support.principal, { note = "first" }))
    assert.same({ path, "workflow", 1, true }, { first.path, first.kind, first.version, first.changed })
    local again = assert(registry.push(path, GOOD, support.principal))
    assert.same({ 1, false }, { again.version, again.changed })
    local second = assert(registry.push(path, GOOD .. " -- 2", support.principal))
    assert.equal(2, second.version)
    local master = places.master()
    assert.equal(GOOD, master:find_one("kt_m_script_versions", { _id = first.sha256 }).source)
    assert.equal(second.sha256, master:find_one("kt_m_scripts", { _id = path }).sha256)
    assert.equal("first", master:find_one("kt_m_versions", { _id = "script/" .. path .. "/1" }).doc.note)
    assert.equal(2, master:count("kt_m_audit_log", { target_type = "script", target_id = path }))
  end)

  it("refuses what is broken, with file and line, and changes nothing", function()
    local at = fresh()
    local path = at .. "workflow.lua"
    assert(registry.push(path, GOOD, support.principal))
    local master = places.master()
    local before = master:find_one("kt_m_counters", { _id = "scripts" }).value
    local broken = {
      { "workflow {\n  run = function( }", 2 },          -- does not compile
      { "\n\nerror 'at load'", 3 },                      -- fails when it declares
      { "workflow { name = 'x' }\nworkflow { name = 'y' }", 1 },
      { "local x = 1\nrequire 'agents/nowhere/lib'", 2 },
      { "\27LJ\2", nil },                                -- bytecode
      { "return {}", nil }, { "", nil },                 -- declares nothing, a workflow is wanted here
      { "mapping { name = 'm', tables = 'canonical' }", nil },
      { "error { code = 'store_unavailable', message = 'm' }", 1 }, -- whatever it raises, it is at fault
      { "while true do end", 1 },
      { "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", 1 },
      { "return require 'nowhere'", nil },               -- a tail call leaves no line
    }
    for _, case in ipairs(broken) do
      local pushed, err = registry.push(path, case[1], support.principal)
      assert.is_nil(pushed)
      assert.equal("script_error", err.code)
      assert.equal(path, err.where.script)
      if case[2] then assert.equal(case[2], err.where.line) end
    end
    for source, line in pairs { ["return {}\n-- caf\233"] = 2, ["\n\nreturn {} \0"] = 3 } do
      local _, err = registry.push(at .. "lib/x.lua", source, support.principal)
      assert.equal("validation_failed", err.code)
      assert.equal(("%slib/x.lua:%d: is not UTF-8 text"):format(at, line), err.message)
    end
    local _, err = registry.push(at .. "p.j2", "a\n{{ y | nofilter }}\n", support.principal)
    assert.same({ "script_error", { script = at .. "p.j2", line = 2 } }, { err.code, err.where })
    assert.equal(1, master:find_one("kt_m_scripts", { _id = path }).version)
    assert.equal(before, master:find_one("kt_m_counters", { _id = "scripts" }).value)
  end)

  it("keeps the kind of what is there", function()
    local at = fresh()
    assert(registry.push(at .. "main.lua", GOOD, support.principal))
    local _, err = registry.push(at .. "main.lua", "return {}", support.principal)
    assert.matches("is a workflow", err.message)
    assert(registry.push(at .. "later.lua", "return {}", support.principal)) -- a lib may become something
    assert(registry.push(at .. "later.lua", GOOD, support.principal))
  end)

  it("takes a byte order mark before the text", function()
    assert(registry.push(fresh() .. "workflow.lua", "\239\187\191" .. GOOD, support.principal))
  end)

  it("names the place once", function()
    local where = { script = "a.lua", line = 3 }
    assert.equal("a.lua:3: no", registry.describe { message = "a.lua:3: no", where = where })
    assert.equal("a.lua:3: no", registry.describe { message = "no", where = where })
    assert.equal("a.lua: no", registry.describe { message = "no", where = { script = "a.lua", line = 0 } })
    assert.equal("b.lua: no", registry.describe({ message = "no" }, "b.lua"))
    assert.equal("not_found", registry.describe { code = "not_found" })
  end)

  it("refuses a change that breaks another script of the agent", function()
    local at = fresh()
    assert(registry.activate({
      [at .. "lib/sums.lua"] = "return { add = function(a, b) return a + b end }",
      [at .. "workflow.lua"] = 'local sums = require "' .. at .. 'lib/sums.lua"\nlocal add = sums.add\n'
        .. 'assert(add, "no add")\n' .. GOOD,
    }, { principal = support.principal }))
    local pushed, err = registry.push(at .. "lib/sums.lua", "return {}", support.principal)
    assert.is_nil(pushed)
    assert.equal("script_error", err.code)
    assert.same({ script = at .. "workflow.lua", line = 3 }, err.where)
  end)

  it("refuses paths and sources that are none", function()
    for _, path in ipairs { "", "/a.lua", "a//b.lua", "../a.lua", "a/../b.lua", "a/.b.lua", "a b.lua", "a\0.lua",
      ("a"):rep(201), "a/" } do
      local pushed, err = registry.push(path, GOOD, support.principal)
      assert.is_nil(pushed, path)
      assert.equal("validation_failed", err.code)
    end
    local _, err = registry.push(fresh() .. "workflow.lua", ("-"):rep(300000), support.principal)
    assert.equal("validation_failed", err.code)
  end)

  it("puts an agent's scripts and its workflow together, under one hash", function()
    local at = fresh()
    local agent = at:match("agents/(.-)/")
    local template = { _id = agent, workflow = at .. "workflow.lua" }
    local missing, err = registry.bundle_for(template)
    assert.is_nil(missing)
    assert.equal("script_error", err.code)
    assert(registry.push(template.workflow, GOOD, support.principal))
    assert(registry.push(fresh() .. "workflow.lua", GOOD, support.principal)) -- of another agent
    local first = assert(registry.bundle_for(template))
    assert.same({ [template.workflow] = GOOD }, first.files)
    assert.equal(first.sha256, assert(registry.bundle_for(template)).sha256)
    assert(registry.push(template.workflow, GOOD .. "--", support.principal))
    local second = assert(registry.bundle_for(template))
    assert.not_equal(first.sha256, second.sha256)
    assert.same(first.files, assert(registry.load(first.sha256)).files)
    local none
    none, err = registry.load(("0"):rep(64))
    assert.is_nil(none)
    assert.equal("store_corrupt", err.code)
  end)

  it("settles pushes that come at the same time", function()
    local task = require "kt.task"
    local path = fresh() .. "workflow.lua"
    local tasks = {}
    for i = 1, 4 do
      tasks[i] = task.spawn(registry.push, path, GOOD .. " -- " .. i, support.principal)
    end
    local versions = {}
    for i = 1, 4 do versions[i] = assert(tasks[i]:join()).version end
    table.sort(versions)
    assert.same({ 1, 2, 3, 4 }, versions)
    assert.equal(4, places.master():count("kt_m_versions", { kind = "script", id = path }))
  end)
end)

describe("the seed", function()
  local file = require "kt.file"
  local home

  setup(function()
    support.open()
    home = os.tmpname()
    os.remove(home)
    assert(file.mkdir(home .. "/agents/seeded/lib"))
    assert(file.mkdir(home .. "/agents/seeded/spec"))
    assert(file.write(home .. "/agents/seeded/workflow.lua", GOOD))
    assert(file.write(home .. "/agents/seeded/lib/x.lua", "return 1"))
    assert(file.write(home .. "/agents/seeded/prompt.j2", "Hello {{ name }}"))
    assert(file.write(home .. "/agents/seeded/agent.lua", "return {}"))
    assert(file.write(home .. "/agents/seeded/spec/x_spec.lua", "syntax error"))
  end)

  teardown(function()
    file.remove(home)
    support.close()
  end)

  local function head(name) return places.master():find_one("kt_m_scripts", { _id = "agents/seeded/" .. name }) end

  it("brings files in once, then what a release changed, and leaves what was pushed", function()
    assert(seed.run(home, false))
    assert.same({ "workflow", "lib", "template" }, { head("workflow.lua").kind, head("lib/x.lua").kind, head("prompt.j2").kind })
    assert.is_nil(head("agent.lua"))
    assert.is_nil(head("spec/x_spec.lua"))
    assert(seed.run(home, false))
    assert.equal(1, head("workflow.lua").version)

    assert(file.write(home .. "/agents/seeded/lib/x.lua", "return 2")) -- a release
    assert(seed.run(home, false))
    assert.equal(2, head("lib/x.lua").version)

    assert(registry.push("agents/seeded/workflow.lua", GOOD .. " -- mine", support.principal))
    assert(file.write(home .. "/agents/seeded/workflow.lua", GOOD .. " -- theirs"))
    assert(seed.run(home, false))
    assert.equal(2, head("workflow.lua").version)
    assert(seed.run(home, true)) -- development: files win
    assert.equal(3, head("workflow.lua").version)
  end)

  it("leaves an agent as it was when one of its files is broken", function()
    assert(file.write(home .. "/agents/seeded/lib/x.lua", "return 3"))
    assert(file.write(home .. "/agents/seeded/workflow.lua", "workflow {"))
    local before = head("lib/x.lua").version
    assert(seed.run(home, true))
    assert.equal(before, head("lib/x.lua").version)
  end)
end)
