local router = require "http.router"
local T = require "http.types"

local params = {id = T.project_id}
local r = router.new{
  {method = "GET", path = "/things", operation_id = "listThings"},
  {method = "POST", path = "/things", operation_id = "createThing"},
  {method = "GET", path = "/things/{id}", operation_id = "getThing", params = params},
  {method = "GET", path = "/things/{id}/parts/all", operation_id = "getParts", params = params},
}

local function found(method, path)
  local route, p = r:match(method, path)
  return route and route.operation_id or p.code, p
end

describe("the router", function()
  it("finds routes and parameters", function()
    assert.equal("listThings", (found("GET", "/things")))
    assert.equal("createThing", (found("POST", "/things")))
    local name, p = found("GET", "/things/acme-1")
    assert.equal("getThing", name)
    assert.equal("acme-1", p.id)
    assert.equal("getThing", (found("GET", "/things/%61cme")))
    assert.equal("getThing", (found("HEAD", "/things/x")))
    assert.equal("getParts", (found("GET", "/things/x/parts/all")))
  end)

  it("gives every strange id the same 404", function()
    for _, id in ipairs{"..", "%2e%2e", "a%2Fb", "a%00b", "ACME", ("a"):rep(10240), "", "%", "%zz", "a b", "a%20b",
      "%c3%a4", "%ff", "-a", "a-", "a_b", "\195\164"} do
      local code, err = found("GET", "/things/" .. id)
      assert.equal("not_found", code, id)
      assert.same({code = "not_found", retryable = false}, err)
    end
  end)

  it("knows nothing but its paths", function()
    for _, path in ipairs{"/", "", "/thing", "/things/", "/things//", "//things", "/things/x/parts", "/things/x/parts/all/"} do
      assert.equal("not_found", (found("GET", path)), path)
    end
  end)

  it("names the allowed methods", function()
    local code, err = found("DELETE", "/things")
    assert.equal("method_not_allowed", code)
    assert.equal("GET, HEAD, POST", err.headers.Allow)
  end)

  it("refuses two routes of one place", function()
    assert.has_error(function()
      router.new{{method = "GET", path = "/a", operation_id = "a"}, {method = "GET", path = "/a", operation_id = "b"}}
    end)
    assert.has_error(function()
      router.new{{method = "GET", path = "/a", operation_id = "a"}, {method = "GET", path = "/b", operation_id = "a"}}
    end)
  end)
end)

describe("a query", function()
  it("is decoded into lists", function()
    assert.same({a = {"1", "2"}, ["b c"] = {"ä&"}, d = {""}}, router.parse_query("a=1&b+c=%C3%A4%26&a=2&d"))
    assert.same({}, router.parse_query(nil))
  end)
  it("must be percent-encoded UTF-8", function()
    for _, q in ipairs{"a=%", "a=%f", "%gg=1", "a=%ff", "a=%c0%80", "a=%ed%a0%80", "a=\255"} do
      local out, err = router.parse_query(q)
      assert.is_nil(out)
      assert.equal("malformed_request", err.code)
    end
  end)
end)
