--- kontor test [--filter PATTERN] FILE…: busted inside the host, in one task, so that test bodies may wait.
-- After every test what it left is counted: tasks, operations, VMs and handles must be as before it.
local task = require "kt.task"

local USAGE = "usage: kontor test [--filter PATTERN] FILE…\n"
local SETTLE = 2 -- seconds that closing handles and cancelled tasks get to go

local function parse(args)
  local files, filter = {}, nil
  local i = 1
  while i <= #args do
    if args[i] == "--filter" then
      filter, i = args[i + 1], i + 1
      if not filter then return nil end
    elseif args[i]:sub(1, 1) == "-" then
      return nil
    else
      files[#files + 1] = args[i]
    end
    i = i + 1
  end
  for _, name in ipairs(files) do
    local f, err = io.open(name)
    if not f then
      io.stderr:write("kontor test: ", err, "\n")
      return nil
    end
    f:close()
  end
  return #files > 0 and files or nil, filter
end

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

  require("kt.file").stat(".") -- its threads, once made, stay
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
  if args[1] == "--help" or args[1] == "-h" then
    io.stdout:write(USAGE)
    return 0
  end
  local files, filter = parse(args)
  if not files then
    io.stderr:write(USAGE)
    return 2
  end
  package.path = package.path .. ";spec/?.lua;/usr/local/share/lua/5.1/?.lua;/usr/local/share/lua/5.1/?/init.lua;"
    .. "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
  package.cpath = string.format("/usr/local/lib/lua/5.1/?.so;/usr/lib/%s-linux-gnu/lua/5.1/?.so;/usr/lib/lua/5.1/?.so",
    jit.arch == "x64" and "x86_64" or "aarch64")
  -- os.exit would close the state under live handles; a test that calls it fails.
  os.exit = function() error("os.exit was called", 2) end -- luacheck: ignore 122

  local ok, passed, failed = pcall(run, files, filter)
  if not ok then
    io.stdout:write("ERROR ", tostring(passed), "\n0 passed, 1 failed\n")
    return 1
  end
  io.stdout:write(string.format("%d passed, %d failed\n", passed, failed))
  return failed == 0 and 0 or 1
end
