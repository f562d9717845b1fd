local clock = require "kt.clock"
local days = require "http.days"
local rfc3339 = require "http.rfc3339"

local function window(query)
  local from, before = days.window(query)
  if not from then return nil, before end
  return clock.format(from):sub(1, 10), clock.format(before):sub(1, 10)
end

describe("the window of a list", function()
  before_each(function() clock.set(rfc3339.parse_date("2026-03-05") + 3600000) end)
  after_each(function() clock.set(nil) end)

  it("is the last 30 days, today included, unless it is given", function()
    assert.same({ "2026-02-04", "2026-03-06" }, { window {} })
    assert.same({ "2026-03-01", "2026-03-06" }, { window { start_date = "2026-03-01" } })
    assert.same({ "2025-12-03", "2026-01-02" }, { window { end_date = "2026-01-01" } })
    assert.same({ "2026-01-01", "2026-01-02" }, { window { start_date = "2026-01-01", end_date = "2026-01-01" } })
  end)

  it("does not begin after its end", function()
    for _, query in ipairs { { start_date = "2026-01-02", end_date = "2026-01-01" }, { start_date = "2026-03-06" } } do
      local from, err = days.window(query)
      assert.is_nil(from)
      assert.same({ "validation_failed", "start_date" }, { err.code, err.errors[1].parameter })
    end
  end)
end)
