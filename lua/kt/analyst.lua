--- Analyst processes: `kontor analyst` children that run rules, with a deadline for each rule.
--
-- A job: {as_of, currency?, mapping={path,source}, rules={{path,source,rule_id}…}, libs={path=source}, params={},
-- tables={{name, path, format, sha256}…}, project_id, run_id}. Messages, in this order: "table"…, "mapped", then for
-- each rule "begin" {rule_id}, any number of "findings" {rule_id, items}, "rule" {rule_id, status, …}; at the end "done".
--
-- A rule that is past its deadline, or in which the process died, ends as a "rule" message with status "error" (what it
-- had found so far is void), and a new child goes on with the rules that are left: its job has done = the "rule"
-- messages so far, and what it says again ("table", "mapped") is swallowed here.
local config = require "kt.config"
local json = require "json"
local proc = require "kt.proc"

local M = {}

local GIB = 2 ^ 30
local SIGKILL, SIGXCPU = 9, 24
local OUT_OF_MEMORY = 3 -- its exit code then (runtime/cmd/analyst.c)
-- Where a build with sanitizers reports to; the rest of our environment is no business of an analyst.
local SANITIZERS = { "ASAN_OPTIONS", "UBSAN_OPTIONS" }

local Child = {}
Child.__index = Child

local function failure(code, message)
  return { code = code, message = message, retryable = false }
end

local function spawn(self)
  local job = {}
  for k, v in pairs(self.job) do job[k] = v end
  job.rules, job.done = json.array(self.rules), json.array(self.done)
  local text, err = json.encode(job)
  if not text then return nil, err end
  local env = { KONTOR_HOME = config.home(), LC_ALL = "C.UTF-8" }
  for _, name in ipairs(SANITIZERS) do env[name] = os.getenv(name) end
  self.child, err = proc.spawn {
    argv = { config.program(), "analyst", "--memory", string.format("%.0f", self.memory), "--cpu",
      string.format("%.0f", self.cpu), "--parent", tostring(proc.pid()) },
    env = env,
    line_max = 16 * 2 ^ 20,
    stdin = text,
  }
  self.rule_id, self.ended = nil, false
  if not self.child then return nil, err end
  return true
end

-- How the process ended, as the error of what it was doing.
local function death(status)
  if status.signal == SIGXCPU then
    return failure("instruction_limit", "the analyst process used up its CPU time")
  elseif status.exit == OUT_OF_MEMORY then
    return failure("memory_limit", "the analyst process needed more memory than it may have")
  elseif status.signal == SIGKILL then -- not by us: the kernel was short of memory
    return failure("memory_limit", "the analyst process was killed by the system")
  end
  local how = status.signal and "signal " .. status.signal or "exit " .. tostring(status.exit)
  return failure("internal", "the analyst process ended early: " .. how)
end

-- The running rule is over with this error: report it, go on with the ones behind it in a new child.
local function lose_rule(self, err)
  local message = { type = "rule", rule_id = self.rule_id, status = "error", error = err }
  self.child:close()
  self.child = nil
  while self.rules[1] and self.rules[1].rule_id ~= self.rule_id do table.remove(self.rules, 1) end
  table.remove(self.rules, 1)
  self.done[#self.done + 1] = message
  self.rule_id, self.restarted = nil, true
  return message
end

local function finished_rule(self, message)
  if self.rules[1] and self.rules[1].rule_id == message.rule_id then table.remove(self.rules, 1) end
  self.done[#self.done + 1] = message
  self.rule_id = nil
end

--- The next message. Yields.
---@return table|nil message  nil at the end
---@return table|nil err      the analysis as a whole failed (no rule can be blamed)
function Child:next()
  if self.ended then return nil end
  if not self.child then
    local ok, err = spawn(self)
    if not ok then return nil, err end
  end
  while true do
    local line, err = self.child:next(self.rule_id and self.rule_deadline or self.load_deadline)
    if not line then
      local status = self.child:status()
      if self.rule_id then
        if err and err.code == "deadline_exceeded" then
          err = failure("deadline_exceeded",
            string.format("the rule did not end within %g s", self.rule_deadline))
        end
        return lose_rule(self, err or death(status))
      end
      self:close()
      return nil, err or (status.exit == 0 and failure("internal", "the analyst ended without a result") or death(status))
    end
    local message, why = json.decode(line)
    if not message then
      self:close()
      return nil, why
    end
    if message.type == "begin" then
      self.rule_id = message.rule_id
    elseif message.type == "rule" then
      finished_rule(self, message)
    elseif message.type == "error" or message.type == "done" then
      self.child:next(self.load_deadline) -- its end: nothing of it is left when we go on
      self:close()
      if message.type == "error" then return nil, message.error end
    end
    if not (self.restarted and (message.type == "table" or message.type == "mapped")) then return message end
  end
end

--- End it; a running process is killed. May be called more than once.
function Child:close()
  self.ended = true
  if self.child then
    self.child:close()
    self.child = nil
  end
end

---@class kt.analyst.opts
---@field job table
---@field rule_deadline number?  seconds for one rule, 60
---@field load_deadline number?  seconds of silence until the first rule begins, 300
---@field memory number?         bytes of address space, 4 GiB
---@field cpu number?            CPU seconds of one process, 3600

--- Start an analysis. Close it in a defer: a task that is killed must not leave the process.
---@param opts kt.analyst.opts
---@return table|nil child
---@return table|nil err
function M.start(opts)
  local rules = {}
  for i, rule in ipairs(opts.job.rules) do rules[i] = rule end
  local self = setmetatable({
    job = opts.job,
    rules = rules,
    done = {},
    rule_deadline = opts.rule_deadline or 60,
    load_deadline = opts.load_deadline or 300,
    memory = opts.memory or 4 * GIB,
    cpu = opts.cpu or 3600,
  }, Child)
  local ok, err = spawn(self)
  if not ok then return nil, err end
  return self
end

return M
