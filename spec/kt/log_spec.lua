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
