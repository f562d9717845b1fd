--- Rows of kt_p_token_usage: what a run has used, one row a call. `_id` is that of the numbered event
--- that tells of it, in whose commit the row is written: it is never there twice.

local value = require "value"

local M = {}

---@param doc table execution
---@param seq integer of the event
---@param at integer ms UTC
---@param duration_ms integer
---@param used {kind: "model"|"tool"|"search", ok: boolean, tool_id: string?}
---@return table row stored form
function M.row(doc, seq, at, duration_ms, used)
  local when = value.date(at)
  local text = tostring(when)
  return {
    _id = ("%s:%d"):format(doc._id, seq),
    execution_id = doc._id,
    instance_id = doc.instance_id,
    agent_id = doc.agent_id,
    at = when,
    day = text:sub(1, 10),
    hour = text:sub(1, 13),
    kind = used.kind,
    tool_id = used.tool_id,
    input_tokens = 0,
    cache_read_tokens = 0,
    cache_write_5m_tokens = 0,
    cache_write_1h_tokens = 0,
    output_tokens = 0,
    reasoning_tokens = 0,
    requests = 1,
    searches = 0,
    cost_source = "unknown", -- and no cost: a tool has no price here
    duration_ms = duration_ms,
    ok = used.ok,
  }
end

return M
