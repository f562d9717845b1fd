local audit = require "domain.audit"
local json = require "json"
local principal = require "http.principal"
local T = require "http.types"

describe("an audit entry", function()
  local who = {id = "dev", name = "dev", role = "admin", via = "dev", address = "127.0.0.1"}

  it("says who did what to what, and in which request", function()
    local op = audit.entry(who, "project.create", "project", "acme", {{pointer = "/a", from = json.null, to = 1}}, {id = "r1"})
    assert.equal("insert", op.op)
    assert.equal("kt_m_audit_log", op.coll)
    local d = op.doc
    assert.same({"dev", "admin", "dev", "project.create", "project", "acme", "ok", "r1", "127.0.0.1", 1},
      {d.actor, d.role, d.via, d.action, d.target_type, d.target_id, d.outcome, d.request_id, d.address, d.count})
    assert.truthy(d._id:find("^aud_%x+$"))
  end)

  it("goes to the database of what it is about", function()
    local op = audit.entry(principal.system(), "dataset.seal", "dataset", "ds_1")
    assert.equal("kt_p_audit_log", op.coll)
    assert.equal("engine", op.doc.via)
    assert.equal(json.null, op.doc.request_id)
  end)

  it("holds at most 4 KiB of changes and says what it left out", function()
    local changes = {}
    for i = 1, 200 do changes[i] = {pointer = "/metadata/k" .. i, from = json.null, to = ("x"):rep(100)} end
    changes[1].to = ("y"):rep(10000)
    local kept = audit.entry(who, "agent.update", "agent", "a", changes).doc.changes
    assert.truthy(#json.encode(kept) <= 4096)
    assert.equal("(10002 bytes of JSON)", kept[1].to)
    assert.truthy(kept[#kept].to:find("more"))
    assert.equal(200, #kept - 1 + tonumber(kept[#kept].to:match("%d+")))
  end)

  it("leaves out what the service sets itself", function()
    local ty = T.object(nil, {{"name", T.str()}, {"version", T.int(), ro = true}})
    assert.same({{pointer = "/name", from = "a", to = "b"}}, audit.changes(ty, {name = "a", version = 1}, {name = "b", version = 2}))
  end)
end)
