local negotiate = require "http.negotiate"

local offered = {"text/event-stream", "application/json"}

describe("what the client accepts", function()
  it("chooses the representation", function()
    assert.equal("text/event-stream", negotiate.best(nil, offered))
    assert.equal("text/event-stream", negotiate.best("*/*", offered))
    assert.equal("application/json", negotiate.best("application/json", offered))
    assert.equal("application/json", negotiate.best("application/*", offered))
    assert.equal("application/json", negotiate.best("text/event-stream;q=0.1, application/json;q=0.9", offered))
    assert.equal("application/json", negotiate.best("*/*, text/event-stream;q=0", offered))
    assert.is_nil(negotiate.best("text/html", offered))
    assert.is_nil(negotiate.best("application/json;q=0", {"application/json"}))
  end)
end)

describe("a media type", function()
  it("is what stands before the parameters", function()
    assert.equal("application/json", negotiate.media("Application/JSON; charset=utf-8"))
    assert.is_nil(negotiate.media(nil))
    assert.equal("", negotiate.media(";"))
  end)

  it("is UTF-8 unless it names another charset", function()
    for header, utf8 in pairs {
      ["application/json"] = true, ["application/json; charset=utf-8"] = true, ['text/csv; header=present; Charset="UTF-8"'] = true,
      ["application/json;charset=latin1"] = false, ["text/csv; charset=windows-1252"] = false, ['text/csv; charset="utf-16"'] = false,
    } do
      assert.equal(utf8, negotiate.utf8(header), header)
    end
    assert.is_true(negotiate.utf8(nil))
  end)
end)
