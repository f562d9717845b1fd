local hide = require "lib.hide"

describe("hidden values", function()
  it("are replaced by what they are called, whole or a word of them", function()
    local shown = hide.of { ["secret:a"] = "Bearer sk-12345678", ["env:B"] = "other-value%1" }
    assert.equal("x [secret:a] y", shown "x Bearer sk-12345678 y")
    assert.equal('{"token":"[secret:a]"}', shown '{"token":"sk-12345678"}')
    assert.equal("[env:B][env:B]", shown "other-value%1other-value%1")
    assert.equal("Bearer nothing", shown "Bearer nothing")
  end)

  it("are found as JSON has them", function()
    local shown = hide.of { s = 'a"b\\c/d-1234' }
    assert.equal('"[s]" "[s]" [s]', shown [["a\"b\\c/d-1234" "a\"b\\c\/d-1234" a"b\c/d-1234]])
  end)

  it("have a least length, and may be none", function()
    assert.equal("1234567 is 1", hide.of { s = "1234567" } "1234567 is 1")
    assert.equal("as it was", hide.of {} "as it was")
    assert.equal("[s]", hide.of { s = "^$()%.[]*+-?" } "^$()%.[]*+-?")
  end)
end)
