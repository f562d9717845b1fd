local principal = require "http.principal"

local function guard(method, headers, via)
  local ok, err = principal.guard({method = method, headers = headers, via = via or "tcp"}, {["kontor.lan"] = true, ["a.lan:81"] = true})
  return ok or err.code
end

describe("the guard", function()
  it("serves loopback names and listed hosts only", function()
    for _, host in ipairs{"localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000", "kontor.lan", "kontor.lan:8000", "a.lan:81"} do
      assert.is_true(guard("GET", {host = host}), host)
    end
    for _, host in ipairs{"evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "a.lan", "a.lan:82",
      "127.0.0.1:80:80", "localhost:x", "evil@localhost", "[::1"} do
      assert.equal("origin_refused", guard("GET", {host = host}), host)
    end
    assert.equal("origin_refused", guard("GET", {}))
  end)

  it("refuses to change anything for another origin", function()
    local host = "127.0.0.1:8000"
    assert.is_true(guard("POST", {host = host}))
    assert.is_true(guard("POST", {host = host, origin = "http://127.0.0.1:8000"}))
    for _, origin in ipairs{"http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:8001", "http://localhost:8000", "file://"} do
      assert.equal("origin_refused", guard("POST", {host = host, origin = origin}), origin)
      assert.equal("origin_refused", guard("GET", {host = host, origin = origin, upgrade = "websocket"}), origin)
    end
    assert.is_true(guard("GET", {host = host, origin = "http://evil.example"}))
  end)

  it("has nothing to ask on the admin socket", function()
    assert.is_true(guard("POST", {}, "unix"))
  end)
end)

describe("a principal", function()
  local route = {role = "author", method = "POST"}
  local function allowed(role, projects, params, r)
    local ok, err = principal.allowed({role = role, projects = projects}, r or route, params or {})
    return ok or err.code
  end
  it("needs the role of the route", function()
    assert.is_true(allowed("admin", {"*"}))
    assert.is_true(allowed("author", {"*"}))
    assert.equal("forbidden", allowed("operator", {"*"}))
  end)
  it("does not learn of other projects", function()
    assert.is_true(allowed("author", {"a"}, {project_id = "a"}))
    assert.equal("not_found", allowed("author", {"a"}, {project_id = "b"}))
    assert.equal("not_found", allowed("viewer", {"a"}, {project_id = "b"}))
    assert.equal("forbidden", allowed("viewer", {"a"}, {project_id = "a"}))
  end)
  it("changes master data only for all projects", function()
    assert.equal("forbidden", allowed("admin", {"a"}))
    assert.is_true(allowed("viewer", {"a"}, {}, {role = "viewer", method = "GET"}))
  end)
end)

describe("who follows something for long", function()
  local me = {id = "key_1", role = "viewer", projects = {"acme"}}
  local req = {via = "tcp", headers = {["x-api-key"] = "kt_1"}, remote = "192.0.2.1"}
  local function still(...)
    local found = {...}
    return principal.still(me, req, {find = function() return unpack(found) end})
  end

  it("is he as long as his key is valid and has its role", function()
    assert.is_true(still(me))
    assert.is_false(still(false))
    assert.is_false(still({id = "key_1", role = "admin", projects = {"acme"}}))
    assert.is_false(still({id = "key_2", role = "viewer", projects = {"acme"}}))
  end)

  it("is not sent away because the store is", function()
    assert.is_true(still(nil, {code = "store_unavailable"}))
    assert.is_true(still(nil, {code = "deadline_exceeded"}))
  end)
end)
