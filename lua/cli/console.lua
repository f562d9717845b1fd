--- kontor console: look into the running service, over its admin socket.
--- The service's side is lua/console/; see docs/console.md.
local commands = require "cli.console.commands"
local complete = require "cli.console.complete"
local crypto = require "kt.crypto"
local edit = require "kt.edit"
local file = require "kt.file"
local given = require "lib.given"
local link = require "cli.console.link"
local options = require "lib.options"
local view = require "cli.console.view"

local spec = {
  usage = "kontor console [--project ID] [--data DIR] [-e TEXT]…",
  options = {
    { "project", "ID", "the project to begin with", default = "DEFAULT_PROJECT_ID" },
    { "data", "DIR", "data folder of the service", default = "KONTOR_DATA_DIR" },
    { "eval", "TEXT", "evaluate this, or run this :command, and end; also -e", many = true },
  },
  after = "On a terminal it edits lines; else it reads them from standard input and ends with the first that fails.\n"
    .. "Exit code 0 when all went well, 1 when something failed or no service runs, 2 for a wrong command line.",
}

local function say(err)
  io.stdout:flush()
  local code = err.code ~= "interrupted" and err.code ~= "usage" and err.code .. ": " or ""
  io.stderr:write(view.safe(code .. err.message), "\n")
end

-- Is it the beginning of something: would more lines make it a chunk?
local function unfinished(text)
  local fn, err = loadstring("return " .. text:gsub("^%s*=", ""))
  if fn then return false end
  local unended = err:find("near '<eof>'", 1, true) ~= nil
  fn, err = loadstring(text)
  if fn then return false end
  return err:find("near '<eof>'", 1, true) ~= nil or unended and text:find("^%s*[%({%[\"']") ~= nil
end

local function show_error(err)
  local where, message = given(err.where), tostring(err.message)
  local code = err.code ~= "script_error" and err.code .. ": " or ""
  local place = where and given(where.line) and ("%s:%d"):format(where.script, where.line)
  if place and not message:find(place, 1, true) then message = message .. " (" .. place .. ")" end
  io.stdout:flush()
  io.stderr:write(view.safe("error: " .. code .. message), "\n")
end

local function evaluate(state, text)
  local answer, err = commands.ask(state, "eval", { text = text })
  if not answer then return nil, err end
  if given(answer.news) then state.write("(" .. view.safe(answer.news) .. ")\n") end
  if answer.output ~= "" then state.write(view.safe(answer.output)) end
  if answer.more > 0 then
    state.write(("%s… %d bytes more\n"):format(answer.output:sub(-1) == "\n" and "" or "\n", answer.more))
  end
  local failed = given(answer.failed)
  if failed then
    show_error(failed)
    return nil, { code = "shown" }
  end
  local value = given(answer.value)
  if value then
    state.write(view.safe(value.text) .. "\n")
    if given(value.more) then state.write(("… %s%d bytes more\n"):format(given(value.cut) and "over " or "", value.more)) end
  end
  state.words.globals = given(answer.names) or state.words.globals
  return true
end

-- One complete input.
local function run(state, text)
  local ok, err
  if text:find("^%s*$") then return true end
  local command = text:match("^%s*[:.]%s*(%a.*)$") or text:match("^%s*[:.]%s*$") and ""
  if command then ok, err = commands.run(state, command) else ok, err = evaluate(state, text) end
  if not ok and err.code ~= "shown" then say(err) end
  return ok, err
end

-- Lines to whole inputs; `read` gives one line, and nil, err at the end or when it was given up.
local function inputs(read)
  return function()
    local text
    while true do
      local line, err = read(text ~= nil)
      if line == nil then
        if err then return "" end -- given up
        return text -- what is there, or the end
      end
      text = text and text .. "\n" .. line or line
      if text:find("^%s*[:.]") or not unfinished(text) then return text end
    end
  end
end

local function history_path()
  local home = os.getenv("XDG_STATE_HOME")
  if not home or home == "" then
    if not os.getenv("HOME") then return nil end
    home = os.getenv("HOME") .. "/.local/state"
  end
  local ok, err = file.mkdir(home .. "/kontor")
  if not ok then
    io.stderr:write("no history is kept: ", err.message, "\n")
    return nil
  end
  return home .. "/kontor/console_history"
end

local function refresh(state)
  local answer = link.ask("words", { project = state.project })
  for name, list in pairs(answer or {}) do state.words[name] = list end
end

local function by_hand(state)
  link.interactive = true
  local editor = edit.open { history = history_path(), complete = function(text) return complete.complete(state, text) end }
  local ask = inputs(function(more)
    if not more then refresh(state) end
    local line, err = editor:read(more and (" "):rep(#state.project - 1) .. "... " or state.project .. "> ")
    if line and line:find("^%S") then editor:add(line) end -- one that begins with a blank is not kept
    return line, err
  end)
  local code = 0
  while not state.over do
    local text = ask()
    if not text then
      state.write("\n")
      break
    end
    local _, err = run(state, text)
    if err and err.code == "unreachable" then
      code = 1
      break
    end
  end
  editor:close()
  return code
end

local function from(state, ask)
  for text in ask do
    if not run(state, text) then return 1 end
    if state.over then break end
  end
  return 0
end

local function given_texts(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

return function(args)
  for i, arg in ipairs(args) do
    if arg == "-e" then args[i] = "--eval" end
  end
  local values, code = options.read("console", args, spec)
  if not values then return code end
  link.data = values.data
  local hello, err = link.ask("hello", {})
  if not hello then
    say(err)
    return 1
  end
  local state = { session = crypto.uuid7(), project = values.project or hello.project, words = { projects = hello.projects, globals = {} },
    write = function(text) io.stdout:write(text) end, over = false }
  local use
  use, err = link.ask("use", { project = state.project })
  if not use then
    say(err)
    return 1
  end
  if values.eval then
    code = from(state, given_texts(values.eval))
  elseif edit.tty() then
    io.stdout:write(("kontor %s, %s, project %s; :help for help, Ctrl-D leaves\n"):format(hello.version,
      view.count(#hello.projects, "project"), state.project))
    code = by_hand(state)
  else
    code = from(state, inputs(function() return io.read("*l") end))
  end
  io.stdout:flush()
  link.ask("reset", { session = state.session }) -- nothing is left; a service that is gone has nothing either
  return code
end
