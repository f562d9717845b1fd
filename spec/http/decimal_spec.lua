local decimal = require "http.decimal"
local rfc3339 = require "http.rfc3339"

describe("money", function()
  it("is exact in nano-USD", function()
    for s, nano in pairs{["0"] = "0", ["-0.000"] = "0", ["12.50"] = "12500000000", ["0.000000001"] = "1",
      ["-0.00000125"] = "-1250", ["9223372036.854775807"] = "9223372036854775807", ["007.1"] = "7100000000"} do
      assert.equal(nano, decimal.to_nano(s))
    end
  end)
  it("has at most 9 decimals and fits in int64", function()
    assert.is_nil((decimal.to_nano("0.0000000001")))
    assert.is_nil((decimal.to_nano("9223372036.854775808")))
    assert.is_nil((decimal.to_nano("1e3")))
  end)
  it("comes back without needless zeros", function()
    assert.equal("0.00000125", decimal.from_nano("1250"))
    assert.equal("-12.5", decimal.from_nano("-12500000000"))
    assert.equal("0", decimal.from_nano("0"))
    assert.equal("3", decimal.from_nano("3000000000"))
  end)
  it("knows a decimal", function()
    for _, s in ipairs{"", "-", ".5", "5.", "1e5", "+1", " 1", "1,5", "0x1", ("1"):rep(41)} do
      assert.is_false(decimal.valid(s), s)
    end
  end)
end)

describe("times", function()
  it("go there and back over centuries", function()
    for ms = -62135596800000, 253402300799000, 86400000 * 731 + 123457 do
      assert.equal(ms, rfc3339.parse(rfc3339.format(ms)))
    end
    assert.equal("1970-01-01T00:00:00.000Z", rfc3339.format(0))
  end)
  it("are refused when there is no such moment", function()
    for _, s in ipairs{"2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
      "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+25:00", ""} do
      assert.is_nil(rfc3339.parse(s), s)
    end
  end)
end)
