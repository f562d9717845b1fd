local config = require "kt.config"

describe("kt.config", function()
  it("gives typed values", function()
    assert.equal("number", type(config.get "KONTOR_WORKERS"))
    assert.equal("boolean", type(config.get "KONTOR_DEV"))
    assert.equal("string", type(config.get "KONTOR_LISTEN"))
    assert.equal(config.get "KONTOR_LISTEN", config.all().KONTOR_LISTEN)
    assert.has_error(function() config.get "KONTOR_NO_SUCH" end)
  end)
end)
