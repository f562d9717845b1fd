local json = require "json"
local problem = require "http.problem"

describe("a problem", function()
  it("has status, title and every member", function()
    local status, headers, body = problem.answer(problem.err("already_exists", "The id is taken."), "r1")
    assert.equal(409, status)
    assert.equal("application/problem+json", headers["Content-Type"])
    assert.same({type = "urn:kontor:error:already_exists", title = "Already exists", status = 409,
      code = "already_exists", detail = "The id is taken.", retryable = false, request_id = "r1"}, json.decode(body))
  end)

  it("lists the faults of fields", function()
    local _, _, body = problem.answer(problem.field({pointer = "/a"}, "required", "is required"), "r")
    local doc = json.decode(body)
    assert.equal("/a", doc.errors[1].pointer)
    assert.equal("is required", doc.detail)
  end)

  it("hides what is inside a fault of ours", function()
    for _, err in ipairs{problem.err("internal", "secret"), {code = "no_such_code", message = "secret"}, "secret", {},
      problem.err("store_unavailable", "secret"), problem.err("storage_full", "secret"), problem.err("store_corrupt", "secret")} do
      local status, _, body, ours = problem.answer(err, "r")
      assert.is_true(status >= 500)
      assert.is_true(ours)
      assert.is_nil(body:find("secret", 1, true))
    end
  end)

  it("says when to come back", function()
    local _, headers = problem.answer(problem.err("queue_full", nil, {retry_after = 1.2}), "r")
    assert.equal("2", headers["Retry-After"])
    _, headers = problem.answer(problem.err("draining"), "r")
    assert.equal("1", headers["Retry-After"])
    _, headers = problem.answer(problem.err("not_found"), "r")
    assert.is_nil(headers["Retry-After"])
  end)
end)
