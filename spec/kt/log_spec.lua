local log = require "kt.log"

describe("kt.log", function()
  it("takes any simple value", function()
    log.debug("spec.nothing", { request_id = "r", project_id = "p", n = 1.5, flag = true, odd = {}, msg = "m", [1] = 2 })
    log.debug "spec.nothing"
  end)
  it("refuses wrong use", function()
    assert.has_error(function() log.info() end)
    assert.has_error(function() log.info("x", "y") end)
    assert.has_error(function() log.execution() end)
  end)
  it("bounds the number of fields", function()
    local fields = {}
    for i = 1, 100 do fields["k" .. i] = i end
    log.debug("spec.many", fields)
  end)
end)

describe("the log level of a project", function()
  after_each(function() log.set_level("spec-project", nil) end)

  it("is its own until it is taken back", function()
    local general = log.level()
    assert.same(general, log.level("spec-project"))
    assert.is_true(log.set_level("spec-project", "error"))
    assert.same({ "error", general, general }, { log.level("spec-project"), log.level("spec-project-2"), log.level() })
    assert.is_true(log.set_level("spec-project", nil))
    assert.same(general, log.level("spec-project"))
  end)

  it("is for a bounded number of projects, with a level that there is", function()
    for i = 1, 64 do assert.is_true(log.set_level("spec-" .. i, "error")) end
    local ok, err = log.set_level("spec-65", "error")
    assert.is_nil(ok)
    assert.same("invalid_argument", err.code)
    for i = 1, 64 do log.set_level("spec-" .. i, nil) end
    assert.has_error(function() log.set_level("spec-project", "loud") end)
    assert.is_nil((log.set_level(("x"):rep(64), "error")))
  end)
end)
