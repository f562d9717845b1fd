--- kontor test [--filter PATTERN] FILE…: busted inside the host, in one task, so that test bodies may wait.
-- After every test what it left is counted: tasks, operations, VMs and handles must be as before it.
local file = require "kt.file"
local options = require "lib.options"
local task = require "kt.task"

local line = {
  usage = "kontor test [--filter PATTERN] FILE…",
  arguments = { { "FILE…", "specs, or folders of them", many = true } },
  options = { { "filter", "PATTERN", "only tests whose name matches this Lua pattern" } },
}
local SETTLE = 2 -- seconds that closing handles and cancelled tasks get to go

-- nil, or what is more than before.
local function leftover(before, after)
  local texts = {}
  for _, what in ipairs { "tasks", "ops", "vms", "handles" } do
    if after[what] > before[what] then
      texts[#texts + 1] = string.format("%d %s", after[what] - before[what], what)
    end
  end
  return #texts > 0 and table.concat(texts, ", ") or nil
end

local function settled(before)
  local waited = 0
  while true do
    collectgarbage() -- handles that are closed by __gc are no leftovers
    local text = leftover(before, task.counts())
    if not text or waited >= SETTLE then return text end
    task.sleep(0.02)
    waited = waited + 0.02
  end
end

-- "file / describe / it" of an element of busted.
local function name_of(busted, element)
  local names = {}
  while element and element.descriptor ~= "suite" do
    table.insert(names, 1, tostring(element.name or element.descriptor))
    element = busted.context.parent(element)
  end
  return table.concat(names, " / ")
end

local function indent(text)
  return "  " .. tostring(text):gsub("%s+$", ""):gsub("\n", "\n  ") .. "\n"
end

-- The nearest thing to what busted.runner does, without its command line and without its os.exit.
local function run(files, filter)
  local busted = require "busted.core"()
  require "busted"(busted)
  require "busted.luajit"()
  local passed, failed, current, good, before = 0, 0, "", false, nil

  busted.subscribe({ "test", "start" }, function(element)
    current = name_of(busted, element)
    return nil, true
  end)
  busted.subscribe({ "test", "end" }, function(_, _, status)
    good = status == "success"
    if good then passed = passed + 1 end
    return nil, true
  end)
  for _, kind in ipairs { "failure", "error" } do
    busted.subscribe({ kind }, function(element, _, message, trace)
      local at = element and name_of(busted, element)
      if element and element.descriptor == "after_each" then at = current end
      if type(message) == "table" then message = message.message or message end
      io.stdout:write(kind == "failure" and "FAILED " or "ERROR ", at or "", "\n", indent(message))
      if trace and trace.traceback and kind == "error" then io.stdout:write(indent(trace.traceback)) end
      failed = failed + 1
      return nil, true
    end)
  end

  -- At the root: the first before_each and the last after_each of every test.
  busted.api.before_each(function() before = task.counts() end)
  busted.api.after_each(function()
    local left = settled(before)
    if left then
      if good then passed = passed - 1 end
      error("left behind by " .. current .. ": " .. left, 0)
    end
  end)

  require "busted.modules.filter_loader"()(busted, {
    tags = {}, excludeTags = {}, filter = { filter }, filterOut = {},
  })
  require "busted.modules.test_file_loader"(busted, { "lua" })(files, { "_spec%.lua$" }, {
    excludes = {}, recursive = true,
  })
  require "busted.execute"(busted)(1, {})
  return passed, failed
end

return function(args)
  local values, code = options.read("test", args, line)
  if not values then return code end
  for _, name in ipairs(values) do
    if not file.stat(name) then
      io.stderr:write("kontor test: there is no ", name, "\n")
      return 2
    end
  end
  package.path = package.path .. ";spec/?.lua;/usr/local/share/lua/5.1/?.lua;/usr/local/share/lua/5.1/?/init.lua;"
    .. "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
  package.cpath = string.format("/usr/local/lib/lua/5.1/?.so;/usr/lib/%s-linux-gnu/lua/5.1/?.so;/usr/lib/lua/5.1/?.so",
    jit.arch == "x64" and "x86_64" or "aarch64")
  -- os.exit would close the state under live handles; a test that calls it fails.
  os.exit = function() error("os.exit was called", 2) end -- luacheck: ignore 122

  local ok, passed, failed = pcall(run, values, values.filter)
  if not ok then
    io.stdout:write("ERROR ", tostring(passed), "\n0 passed, 1 failed\n")
    return 1
  end
  io.stdout:write(string.format("%d passed, %d failed\n", passed, failed))
  return failed == 0 and 0 or 1
end
