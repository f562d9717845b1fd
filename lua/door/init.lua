--- The door: the one place where a script touches the world. The script VM hands over calls, the
--- engine journals them, the services here do them.
---
--- A service is a table:
---   class    "read": its answer is recorded and rides with the next chunk. "effect": its answer is
---            in the store before the script goes on. "emit": published, neither recorded nor answered.
---   run      fun(call): any, table? — the answer (a JSON value, nil is null), or nil, err
---   wake_at  fun(call): integer? — only for calls that do nothing but wait: ms UTC of their end; a
---            run with none but such calls open may give up its coroutine
---   expand   fun(answer): table?, table? — what the script gets for a recorded answer, where that is
---            less than the script needs and can be made again from it
---   answer_bytes  integer? bytes of an answer that a script holds itself, where they are others
---   noted    fun(run, answer) — what a good answer means for the run's result
--- Derived calls (time.now, random, uuid) never leave the script VM.

local M = {}

---@class door.Call
---@field id integer
---@field name string
---@field args table the arguments by name
---@field now integer ms UTC, the run's logical time when it was made
---@field run door.Context
---@field emit fun(type: string, data: table) numbered event of this call; one that is in the journal
---already (the call was cut off and is done again) is left out
---@field publish fun(type: string, data: table) passing event
---@field begun fun(type: string): boolean is this event of the call in the journal from before?
---@field written fun(): boolean?, table? waits until what was emitted is in the store
---@field complete fun(type: string, data: table, usage: table?) the numbered event that is written with
---the answer, and the row of kt_p_token_usage that goes with it
---@field step integer counts the answers that the script has got, from 1
---@field class string? a call whose class is another one than its service's sets it

---@class door.Context what a service may know of the run
---@field project_id string
---@field db table the project's database
---@field execution_id string
---@field execution table the document
---@field settings table effective settings of the run
---@field currency string? of its project's reports; nil: that of the data's company
---@field tools table<string, table> the agent's tools at their pinned versions, stored form, by id
---@field files table<string, string> the run's bundle: source by path
---@field bundle string its sha256
---@field capability {principal_id: string, role: string, via: string, tools: string[]} what it may do
---@field system_prompt_id string?
---@field system_prompt_ref string?
---@field progress {partial: any, report: table?, rows: integer?, mapping: string?, warnings: table[]?}

local function refuse(name)
  return function()
    return nil, {
      code = "tool_not_found",
      message = name .. " is not configured in this service",
      retryable = false,
    }
  end
end

M.services = {
  ["erp.load"] = require("door.erp").load,
  ["erp.sweep"] = require("door.erp").sweep,
  ["data.get"] = require("door.data").get,
  ["data.list"] = require("door.data").list,
  ["template.load"] = require("door.template").load,
  ["template.rendered"] = require("door.template").rendered,
  ["time.sleep"] = require("door.time").sleep,
  ["log"] = require("door.emit").log,
  ["progress"] = require("door.emit").progress,
  ["result.partial"] = require("door.emit").partial,
  ["model.call"] = { class = "effect", run = refuse("model.call") },
  ["tool.call"] = require("door.tool").call,
  ["tool.returned"] = require("door.tool").returned,
  ["human.ask"] = { class = "effect", run = refuse("human.ask") },
}

local unknown = {
  class = "read",
  run = function(call)
    return nil, { code = "tool_not_found", message = "there is no call " .. call.name, retryable = false }
  end,
}

---@param name string
---@return table service
function M.service(name)
  return M.services[name] or unknown
end

--- The error that a script sees.
---@param err table
---@return {code: string, message: string, retryable: boolean, details: table?}
function M.script_error(err)
  return {
    code = err.code or "internal",
    message = err.message or "the call failed",
    retryable = err.retryable == true,
    details = err.details,
  }
end

return M
