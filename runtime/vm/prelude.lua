-- What a script sees beside the sandbox: declarations, require, the door, parallel (api.md 9).
-- Once per script VM, shared by its runs; all that belongs to a run is in c.state().
-- c: the C half (run.c). Returns main, base, libs.

local c, mark, sliced = ...
local error, pcall, rawget, select, type = error, pcall, rawget, select, type
local tostring = c.tostring
local create, status, yield = coroutine.create, coroutine.status, coroutine.yield
local raw_resume = c.raw_resume
local floor = math.floor

local base, libs = {}, {}


-- The door. A call is registered with C, which gives it the next id; then the run waits. Of several
-- calls that are open at once (parallel) each answer wakes the one branch that asked, in the order
-- in which the answers came, so that a replay goes the same way.

-- Wait for the next answer; returns its id. In a branch the scheduler above does it.
local function park(st)
  if st.branch then
    yield(mark)
  else
    st.delivered = c.park()
  end
  return st.delivered
end

local function begin(name, args)
  local st = c.state()
  if st.declaring then
    error(name .. ": not while a script loads", 3)
  end
  local id = c.begin(name, args)
  st.waiting[id] = st.branch or false
  return id
end

local function await(id)
  local st = c.state()
  while park(st) ~= id do
  end
  st.waiting[id] = nil
  local ok, value = c.take(id)
  if not ok then
    error(value, 0)
  end
  return value
end

local function call(name, args)
  return await(begin(name, args))
end

local function emit(name, args)
  c.emit(name, args)
end


-- parallel{f, g, …}: the functions as branches of this run. Their first results in order; the
-- first error raises, after the others have ended.

local function resume_branch(co, ...)
  local n, ok, value = select("#", ...), nil, nil
  local function result(...)
    n, ok, value = select("#", ...), (...), (select(2, ...))
  end
  result(raw_resume(co, ...))
  while ok and n == 1 and status(co) ~= "dead" and sliced() do
    result(raw_resume(co))
  end
  return ok, value
end

function base.parallel(fns)
  if type(fns) ~= "table" then
    error("bad argument #1 to 'parallel' (table expected, got " .. type(fns) .. ")", 2)
  end
  local n = #fns
  if n > 256 then
    error("parallel: at most 256 functions", 2)
  end
  for i = 1, n do
    if type(fns[i]) ~= "function" then
      error("parallel: item " .. i .. " is a " .. type(fns[i]) .. ", not a function", 2)
    end
  end
  local st = c.state()
  local me = { up = st.branch }
  local results, live, failed, failure = {}, n, false, nil

  local function drive(branch)
    st.branch = branch
    local ok, value = resume_branch(branch.co)
    st.branch = me.up
    if ok and status(branch.co) ~= "dead" then
      if value == mark then
        return
      end
      ok, value = false, "coroutine.yield outside a coroutine"
    end
    live = live - 1
    if ok then
      results[branch.index] = value
    elseif not failed then
      failed, failure = true, value
    end
  end

  for i = 1, n do
    drive({ co = create(fns[i]), index = i, of = me })
  end
  while live > 0 do
    local branch = st.waiting[park(st)]
    while branch.of ~= me do
      branch = branch.of.up
    end
    drive(branch)
  end
  if failed then
    error(failure, 0)
  end
  return results
end


-- The calls of the door. Arguments go out as one table with names.

local function wants(kind, value, position, name)
  if type(value) ~= kind then
    error("bad argument #" .. position .. " to '" .. name .. "' (" .. kind .. " expected, got "
      .. type(value) .. ")", 3)
  end
end

libs.model = {}
function libs.model.call(args)
  wants("table", args, 1, "model.call")
  return call("model.call", args)
end

-- The function that a tool's script of the bundle declares; loaded once a run, as a script of its own.
local load_file

local function declared_tool(st, path)
  local run = st.tools[path]
  if run then
    return run
  end
  local main, kind, declaration, depth = st.main, st.kind, st.declaration, st.depth
  st.main, st.kind, st.declaration, st.depth, st.declaring = path, nil, nil, 0, true
  local ok, problem = pcall(load_file, st, path)
  run = st.kind == "tool" and st.declaration.run
  st.main, st.kind, st.declaration, st.depth, st.declaring = main, kind, declaration, depth, nil
  if not ok then
    error(problem, 0)
  elseif not run then
    error({ code = "tool_not_found", message = path .. " declares no tool in this run's scripts" }, 0)
  end
  st.tools[path] = run
  return run
end

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local out = c.mark_like(value, {})
  for _, k in ipairs(c.keys(value)) do
    out[k] = copy(rawget(value, k))
  end
  return out
end

-- A tool that is a script is a part of the run: it computes here, its calls are the run's calls. The
-- host, which has said what to run, is told the outcome and makes the answer of it.
local function problem_of(err)
  local structured = type(err) == "table" and type(rawget(err, "code")) == "string"
  return {
    code = structured and rawget(err, "code") or "script_error",
    message = tostring(structured and rawget(err, "message") or err),
    retryable = structured and rawget(err, "retryable") == true,
  }
end

local function run_tool(answer, args)
  local ok, value = pcall(function()
    return declared_tool(c.state(), answer.script)(args)
  end)
  local outcome = { call = answer.call }
  if ok then
    outcome.value = value
  else
    outcome.error = problem_of(value)
  end
  local sent, id = pcall(begin, "tool.returned", outcome)
  if not sent then -- a value or message that cannot be carried: of that the host is told instead
    id = begin("tool.returned", { call = answer.call, error = problem_of(id) })
  end
  return await(id)
end

libs.tool = {}
function libs.tool.call(tool_id, args)
  wants("string", tool_id, 1, "tool.call")
  if args == nil then
    args = {}
  end
  local answer = call("tool.call", { tool_id = tool_id, args = args })
  if type(answer) == "table" and answer.script then
    return run_tool(answer, copy(args))
  end
  return answer
end

libs.erp = {}
function libs.erp.load(dataset_id)
  return call("erp.load", { dataset_id = dataset_id })
end
function libs.erp.sweep(args)
  wants("table", args, 1, "erp.sweep")
  return call("erp.sweep", args)
end

libs.data = {}
function libs.data.get(kind, id)
  wants("string", kind, 1, "data.get")
  wants("string", id, 2, "data.get")
  return call("data.get", { kind = kind, id = id })
end
function libs.data.list(kind, filter)
  wants("string", kind, 1, "data.list")
  return call("data.list", { kind = kind, filter = filter == nil and {} or filter })
end

libs.template = {}
function libs.template.render(prompt_id, vars, ref)
  wants("string", prompt_id, 1, "template.render")
  -- The host finds and compiles the prompt, the rendering is ours (lua/template/render.lua).
  local prompt = call("template.load", { prompt_id = prompt_id, ref = ref })
  local text, chars = base.require("template.render")(prompt, vars == nil and {} or vars)
  call("template.rendered",
    { prompt_id = prompt_id, version = prompt.version, sha256 = prompt.sha256, chars = chars })
  return text
end

libs.time = { now = c.now, format = c.format_time, parse = c.parse_time }
function libs.time.sleep(seconds)
  wants("number", seconds, 1, "time.sleep")
  if not (seconds >= 0 and seconds <= 366 * 86400) then
    error("bad argument #1 to 'time.sleep' (seconds, 0 to a year)", 2)
  end
  call("time.sleep", { seconds = seconds })
end

libs.human = {}
function libs.human.ask(args)
  wants("table", args, 1, "human.ask")
  return call("human.ask", args)
end

local levels = { debug = true, info = true, warn = true, error = true }
function base.log(level, text, fields)
  if not levels[level] then
    error("bad argument #1 to 'log' (debug, info, warn or error)", 2)
  end
  emit("log", { level = level, message = tostring(text), fields = fields })
end

function base.progress(done, total, text)
  wants("number", done, 1, "progress")
  emit("progress", { done = done, total = total, message = text })
end

libs.result = {}
function libs.result.partial(value)
  emit("result.partial", { value = value })
end

-- Derived from the run's seed: the same in every replay.
local function random(low, high)
  local r = c.random()
  if low == nil then
    return r
  end
  if high == nil then
    low, high = 1, low
  end
  if type(low) ~= "number" or type(high) ~= "number" or low > high then
    error("bad argument to 'random' (interval is empty)", 2)
  end
  return floor(r * (floor(high) - floor(low) + 1)) + floor(low)
end
base.random = random
base.uuid = c.uuid
libs.math = { random = random }


-- Declarations: what each kind must have.

local kinds = {
  workflow = { name = "string", run = "function" },
  tool = { name = "string", description = "string", run = "function" },
  rule = { id = "string", title = "string", category = "string", run = "function" },
  mapping = { name = "string" },
  route = { method = "string", path = "string", run = "function" },
}

for kind, fields in pairs(kinds) do
  local function declare(declaration)
    local st = c.state()
    if type(declaration) ~= "table" then
      error(kind .. ": a table is expected, not a " .. type(declaration), 2)
    end
    if st.depth ~= 1 then
      error(kind .. ": only the script itself declares, not a library or a running script", 2)
    end
    if st.declaration then
      error(kind .. ": a script declares once", 2)
    end
    for _, name in ipairs(c.keys(fields)) do
      local got = type(rawget(declaration, name))
      if got ~= fields[name] then
        error(kind .. ": field '" .. name .. "' must be a " .. fields[name] .. ", not " .. got, 2)
      end
    end
    st.kind, st.declaration = kind, declaration
  end
  base[kind] = declare
end

-- tool{…} declares, tool.call(…) calls.
local declare_tool = base.tool
base.tool = nil
setmetatable(libs.tool, { __metatable = false, __call = function(_, declaration)
  declare_tool(declaration)
end })

-- The declaration as data: functions become true.
local function describe(value, depth, seen)
  local kind = type(value)
  if kind == "function" then
    return true
  elseif kind ~= "table" then
    return value
  end
  if depth > 32 or seen[value] then
    error("a declaration must be a tree of at most 32 levels", 0)
  end
  seen[value] = true
  local out, names = c.mark_like(value, {}), false
  local keys = c.keys(value)
  for _, k in ipairs(keys) do
    names = names or type(k) == "string"
  end
  for _, k in ipairs(keys) do -- data has either names or places: {"enum", default = x} gets names
    out[names and tostring(k) or k] = describe(rawget(value, k), depth + 1, seen)
  end
  seen[value] = nil
  return out
end


-- require: a file of the bundle, loaded once per run.

function load_file(st, path)
  local chunk = c.instance(path)
  if not chunk then
    return nil
  end
  st.depth = st.depth + 1
  local value = chunk(path)
  st.depth = st.depth - 1
  return value
end

local loading = {}

function base.require(name)
  local st = c.state()
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
  end
  if name == "json" or name == "cjson" then
    return c.lib("json")
  end
  local path = c.resolve(name, st.main)
  if not path then
    error("module '" .. name .. "' is not in the bundle", 2)
  end
  local value = st.loaded[path]
  if value == loading then
    error("module '" .. name .. "' requires itself", 2)
  elseif value == nil then
    st.loaded[path] = loading
    value = load_file(st, path)
    if value == nil then
      value = true
    end
    st.loaded[path] = value
  end
  return value
end


-- A run. mode: "declare" returns the declaration; "run" calls what was declared; "call" calls a
-- function of the table that a library returned.

local function main(path, mode, name)
  local st = c.state()
  st.main, st.loaded, st.tools, st.waiting, st.depth = path, {}, {}, {}, 0
  local value = load_file(st, path)
  if mode == "declare" then
    local out = st.declaration and describe(st.declaration, 1, {}) or { name = path }
    out.kind = st.kind or "lib"
    return out
  end
  local fn
  if mode == "call" then
    fn = type(value) == "table" and rawget(value, name)
    if type(fn) ~= "function" then
      error(path .. " has no function '" .. name .. "'", 0)
    end
  elseif not st.declaration then
    error(path .. " declares nothing to run", 0)
  else
    fn = st.declaration.run
  end
  st.depth = 2 -- nothing declares from here on
  c.loaded()
  if st.kind == "workflow" and mode == "run" then
    return fn(c.info(), c.input())
  end
  return fn(c.input())
end

return main, base, libs
