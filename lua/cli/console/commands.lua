--- The console's commands: `:name arguments`. Each asks the service and writes what it answered.
local given = require "lib.given"
local json = require "json"
local link = require "cli.console.link"
local view = require "cli.console.view"

local M = {}

---@class cli.console.State
---@field session string
---@field project string
---@field agent string? as it was asked for
---@field words table what can be completed
---@field write fun(text: string)
---@field over boolean

--- Events of a page of data that `:events` shows.
local DATA = 160

local function line(state, text) state.write(view.safe(text) .. "\n") end

local function ask(state, command, more)
  local body = { session = state.session, project = state.project, agent = state.agent }
  for name, v in pairs(more or {}) do body[name] = v end
  return link.ask(command, body)
end
M.ask = ask

---@class cli.console.Command
---@field name string
---@field usage string
---@field help string
---@field more string? for :help NAME
---@field complete string? what its first argument is: a list of state.words
---@field run fun(state: cli.console.State, args: string[]): true|nil, table?

---@type cli.console.Command[]
M.list = {}
local by_name = {}

local function add(name, usage, help, run, more)
  local command = { name = name, usage = (":" .. name .. " " .. usage):gsub(" $", ""), help = help, run = run, more = more and more.more,
    complete = more and more.complete }
  M.list[#M.list + 1] = command
  by_name[name] = command
end

local function needs(args, what)
  if not args[1] then return nil, { code = "usage", message = "which " .. what .. "?" } end
  return true
end

add("use", "PROJECT [AGENT]", "choose the project and the agent whose scripts are at hand", function(state, args)
  local ok, err = needs(args, "project")
  if not ok then return nil, err end
  local answer
  answer, err = link.ask("use", { project = args[1], agent = args[2] })
  if not answer then return nil, err end
  state.project, state.agent = answer.project, args[2]
  if given(answer.agent) then
    line(state, ("project %s, agent %s (version %d), bundle %s with %s"):format(answer.project, answer.agent, answer.agent_version,
      answer.bundle:sub(1, 8), view.count(answer.files, "file")))
    if #answer.agents > 1 then line(state, "agents of the project: " .. table.concat(answer.agents, ", ")) end
  else
    line(state, ("project %s has no agent instance: no scripts are at hand"):format(answer.project))
  end
  return true
end, { complete = "projects" })

add("executions", "[STATUS] [N]", "the newest executions, of one status", function(state, args)
  local status, limit = args[1], args[2]
  if tonumber(status) then status, limit = nil, status end
  local answer, err = ask(state, "executions", { status = status, limit = tonumber(limit) })
  if not answer then return nil, err end
  local rows = {}
  for i, run in ipairs(answer.rows) do
    local note = given(run.error) or ""
    if run.status == "waiting" and given(run.due_ms) then note = "until " .. view.clock(run.due_ms) end
    rows[i] = { view.short(run.execution_id), run.status, run.agent_id, view.span(run.age_ms) .. " ago", view.span(run.duration_ms),
      run.attempt, note }
  end
  if #rows == 0 then
    line(state, "no executions")
  else
    line(state, view.columns({ "id", "status", "agent", ">created", ">took", ">attempt", "note" }, rows))
    if answer.more then line(state, "… there are more: :executions " .. (status or "") .. (status and " " or "") .. #rows * 2) end
  end
  return true
end, { complete = "statuses" })

local function show_event(state, event)
  local data = json.encode(event.data) or ""
  if #data > DATA then data = data:sub(1, DATA) .. "…" end
  line(state, ("%5s  %s  %-20s %s"):format(event.seq or "", view.clock(event.at), event.type, data))
end

add("events", "EXEC [SINCE]", "its events, then live until it ends or Ctrl-C", function(state, args)
  local ok, err = needs(args, "execution")
  if not ok then return nil, err end
  local since, id = tonumber(args[2]) or 0, args[1]
  while true do
    local answer
    answer, err = ask(state, "events", { execution = id, since = since })
    if not answer then
      if err.code ~= "interrupted" then return nil, err end
      line(state, ("stopped after event %d; it runs on"):format(since))
      return true
    end
    id, since = answer.execution_id, answer.since
    for _, event in ipairs(answer.events) do show_event(state, event) end
    if answer.ended then
      line(state, "it has ended")
      return true
    end
  end
end, { complete = "executions" })

add("journal", "EXEC [N]", "the last records of its journal: calls, hashes, sizes", function(state, args)
  local ok, err = needs(args, "execution")
  if not ok then return nil, err end
  local answer
  answer, err = ask(state, "journal", { execution = args[1], limit = tonumber(args[2]) or 40 })
  if not answer then return nil, err end
  local rows = {}
  for i, r in ipairs(answer.rows) do
    local result = ""
    if r.kind == "answer" then result = r.ok and "ok " .. r.answer_hash:sub(1, 8) or "failed " .. tostring(given(r.error) or "") end
    rows[i] = { given(r.seq) or "", view.clock(r.at_ms), r.kind, given(r.call) or "", r.name, r.hash and r.hash:sub(1, 8) or "",
      result, view.bytes(r.bytes), r.token }
  end
  line(state, view.columns({ ">seq", "at", "kind", ">call", "name", "args", "answer", ">size", ">token" }, rows))
  local cut = answer.records - #rows
  line(state, ("%s in %s%s"):format(view.count(answer.records, "record"), view.count(answer.chunks, "chunk"),
    cut > 0 and (", the first %d not shown (:journal EXEC %d)"):format(cut, answer.records) or ""))
  return true
end, { complete = "executions" })

local function show_live(state, answer)
  line(state, ("%s runs in worker %s, %s answered so far%s"):format(view.short(answer.execution_id), answer.worker, view.count(answer.steps, "call"),
    given(answer.stopping) and ", being stopped (" .. answer.stopping .. ")" or ""))
  local last
  for _, frame in ipairs(answer.frames) do
    if frame.call ~= last then
      last = frame.call
      line(state, last and ("branch that waits for call %d:"):format(last) or "script:")
    end
    line(state, ("  %s:%d%s"):format(frame.script, frame.line, frame.name and " in " .. frame.name or ""))
  end
  if #answer.calls > 0 then
    local rows = {}
    for i, call in ipairs(answer.calls) do rows[i] = { "  " .. call.id, call.name, call.args } end
    line(state, "open calls:\n" .. view.columns({ "  call", "name", "arguments" }, rows))
  end
end

local function show_parked(state, answer)
  if answer.ended then
    line(state, ("%s has ended (%s): it has no stack"):format(view.short(answer.execution_id), answer.status))
  else
    line(state, ("%s is %s and has no coroutine now%s; its script %s runs again from its journal"):format(view.short(answer.execution_id),
      answer.status, given(answer.due_at) and " until " .. answer.due_at or "", answer.workflow))
  end
  local err = given(answer.error)
  if err then
    local where = given(err.where)
    line(state, ("error %s: %s%s"):format(err.code, err.message, where and (" (%s:%s)"):format(where.script, given(where.line) or "?") or ""))
  end
  if answer.answered > 0 then
    local rows = {}
    for i, a in ipairs(answer.answers) do rows[i] = { "  " .. a.call, a.name, a.ok and "ok" or "failed", view.clock(a.at_ms) } end
    line(state, ("last of %s in the journal:\n%s"):format(view.count(answer.answered, "answer"),
      view.columns({ "  call", "name", "answer", "at" }, rows)))
  end
  for _, worker in ipairs(answer.silent) do line(state, "not asked: " .. worker) end
end

add("stack", "EXEC", "where its script is, and what it waits for", function(state, args)
  local ok, err = needs(args, "execution")
  if not ok then return nil, err end
  local answer
  answer, err = ask(state, "stack", { execution = args[1] })
  if not answer then return nil, err end
  if answer.live then show_live(state, answer) else show_parked(state, answer) end
  return true
end, { complete = "executions" })

-- One line a worker; those that did not answer are said.
local function per_worker(state, heads, cells)
  local answer, err = ask(state, "workers")
  if not answer then return nil, err end
  local rows, silent = {}, {}
  for _, row in ipairs(answer.rows) do
    local info = given(row.info)
    if info then
      cells(rows, row, info)
    else
      silent[#silent + 1] = ("worker %d, pid %d: no answer (%s)"):format(row.slot, row.pid, tostring(given(row.why)))
    end
  end
  line(state, #rows > 0 and view.columns(heads, rows) or "none")
  for _, text in ipairs(silent) do line(state, text) end
  return true
end

add("workers", "", "all workers: runs, loop lag, incarnation", function(state)
  return per_worker(state, { "worker", ">pid", "incarnation", "status", ">up", ">runs", ">tasks", ">loop lag" }, function(rows, row, info)
    rows[#rows + 1] = { info.slot, info.pid, info.epoch:sub(1, 8), info.status, view.span(row.age_ms), info.runs, info.tasks,
      ("%.1f ms"):format(info.loop_lag_ms) }
  end)
end)

add("memory", "", "memory of each worker", function(state)
  return per_worker(state, { "worker", ">resident", ">host VM", ">script VMs", ">bytes of these", ">console" }, function(rows, _, info)
    local bytes, console = 0, 0
    for _, vm in ipairs(info.vms) do bytes = bytes + vm.bytes end
    for _, vm in ipairs(info.sessions) do console = console + vm.bytes end
    rows[#rows + 1] = { info.slot, view.bytes(info.rss_bytes), view.bytes(info.host_bytes), #info.vms, view.bytes(bytes), view.bytes(console) }
  end)
end)

add("vms", "", "script VMs by project and bundle, all workers", function(state)
  return per_worker(state, { "worker", "project", "bundle", "for", ">bytes", ">peak", ">runs" }, function(rows, _, info)
    for _, vm in ipairs(info.vms) do
      rows[#rows + 1] = { info.slot, vm.project_id, vm.bundle:sub(1, 8), "runs", view.bytes(vm.bytes), view.bytes(vm.peak), vm.runs }
    end
    for _, vm in ipairs(info.sessions) do
      rows[#rows + 1] = { info.slot, vm.project_id, vm.bundle:sub(1, 8), "console", view.bytes(vm.bytes), "", vm.runs }
    end
  end)
end)

add("store", "", "the store as each worker sees it", function(state)
  return per_worker(state, { "worker", "engine", ">databases", ">connections", ">queue", ">pending", ">WAL", ">quarantined" }, function(rows, _, info)
    local s = info.store
    rows[#rows + 1] = { info.slot, s.engine, s.open_databases, s.connections, s.queue, s.pending, view.bytes(s.wal_bytes), s.quarantined }
  end)
end)

add("log", "[LEVEL]", "log level of the project, on all workers; `default` takes it back", function(state, args)
  local answer, err = ask(state, "log", { level = args[1] })
  if not answer then return nil, err end
  local rows = {}
  for i, row in ipairs(answer.rows) do
    rows[i] = { row.slot, row.pid, given(row.level) or "no answer: " .. tostring(given(row.why)), given(row.general) or "" }
  end
  line(state, view.columns({ "worker", ">pid", "lines of " .. answer.project, "all others" }, rows))
  return true
end, { complete = "levels", more = "It holds at once for lines with this project_id, until the worker ends; a worker that is started later has the level of\n"
  .. "the project's settings (log_level, else KONTOR_LOG_LEVEL) again, as after `default`." })

add("reset", "", "a new scratch VM: all globals are gone", function(state)
  local answer, err = ask(state, "reset")
  state.words.globals = {}
  return answer and true, err
end)

add("help", "[COMMAND]", "this", function(state, args)
  local wanted = args[1] and args[1]:gsub("^[:.]", "")
  if wanted then
    local command, err = M.find(wanted)
    if not command then return nil, err end
    line(state, command.usage .. "\n  " .. command.help .. (command.more and "\n" .. command.more or ""))
    return true
  end
  local rows = {}
  for i, command in ipairs(M.list) do rows[i] = { "  " .. command.usage, command.help } end
  line(state, "Lua is evaluated in a scratch VM with the scripts of the project's agent at hand (require); it only reads:\n"
    .. "  data.list(\"finding\", {severity = \"critical\"})   require \"lib.demand\"   x = data.get(\"dataset\", \"ds_…\")\n"
    .. "Globals stay until :reset, locals do not. A text that is not finished goes on in the next line.\n\n"
    .. (view.columns({ "Commands", "" }, rows)) .. "\n\n"
    .. "A command's name may be cut short (:ex); . is as good as :. EXEC is an execution id, or the beginning or end of\n"
    .. "its hexadecimal part. Tab completes, Ctrl-R searches the history, Ctrl-C stops what runs, Ctrl-D leaves.")
  return true
end, { complete = "commands" })

add("quit", "", "leave (also Ctrl-D)", function(state)
  state.over = true
  return true
end)

--- The command of a name that may be cut short.
---@param name string
---@return cli.console.Command? command, table? err
function M.find(name)
  if by_name[name] then return by_name[name] end
  local found = {}
  for _, command in ipairs(M.list) do
    if name ~= "" and command.name:sub(1, #name) == name then found[#found + 1] = command end
  end
  if #found == 1 then return found[1] end
  local names = {}
  for i, command in ipairs(#found > 0 and found or M.list) do names[i] = ":" .. command.name end
  return nil, { code = "usage", message = (#found == 0 and "there is no :%s; there are %s" or ":%s is one of %s"):format(name,
    table.concat(names, " ")) }
end

--- Run a command line without its prefix.
---@param state cli.console.State
---@param text string
---@return true? ok, table? err
function M.run(state, text)
  local args = {}
  for word in text:gmatch("%S+") do args[#args + 1] = word end
  local command, err = M.find(table.remove(args, 1) or "")
  if not command then return nil, err end
  return command.run(state, args)
end

return M
