-- One commit for a change of the API: the ops, with the idempotency row of the request beside them.

local idempotency = require "http.idempotency"

local M = {}

---@param ctx kontor.Context
---@param db table kt.store database
---@param ops table[]
---@param result kontor.Answer what will be answered when the commit succeeds
---@return kontor.Answer|nil
---@return kontor.Error|nil with `coll` of the op that failed
function M.run(ctx, db, ops, result)
  for _, op in ipairs(idempotency.ops(ctx, result)) do ops[#ops + 1] = op end
  local done, err = db:commit(ops)
  if not done then
    if err.index and ops[err.index] then err.coll = ops[err.index].coll end
    return nil, err
  end
  idempotency.committed(ctx)
  return result
end

return M
