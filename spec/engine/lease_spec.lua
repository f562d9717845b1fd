-- Workers of other hosts: dead when their row stays as it is while we look, whatever their clock says.
local clock = require "kt.clock"
local lease = require "engine.lease"
local places = require "lib.places"
local support = require "engine.support"
local task = require "kt.task"
local value = require "value"

describe("a worker of another host", function()
  local seconds, n, far = lease.LEASE_SECONDS, 0, nil

  setup(function()
    support.open()
    lease.LEASE_SECONDS = 0.2
    assert(lease.start { slot = 0, epoch = "lease-spec" })
  end)
  teardown(function()
    lease.LEASE_SECONDS = seconds
    lease.stop()
    support.close()
  end)
  before_each(function()
    n = n + 1
    far = "far" .. n
    assert(places.master():insert("kt_m_workers",
      { _id = far, slot = 0, host = "elsewhere", pid = 1, process_start = "1", started_at = value.date(0), lease_until = value.date(1) }))
  end)
  after_each(function() places.master():delete_one("kt_m_workers", { _id = far }) end)

  local function is_dead()
    for _, row in ipairs((assert(lease.dead()))) do
      if row._id == far then return true end
    end
    return false
  end

  local function renew()
    assert(places.master():update_one("kt_m_workers", { _id = far }, { inc = { renewals = 1 },
      set = { lease_until = value.date(clock.now()) } }))
  end

  it("lives at first sight, however old its lease looks, and is dead when nothing moves", function()
    assert.is_false(is_dead())
    task.sleep(0.3)
    assert.is_true(is_dead())
  end)

  it("lives as long as it renews, by whichever clock", function()
    for _ = 1, 4 do
      assert.is_false(is_dead())
      task.sleep(0.15)
      renew()
    end
    assert.is_false(is_dead())
  end)

  it("is looked at anew after a time in which nobody could look", function()
    local renewing = lease.RENEW_SECONDS
    assert.is_false(is_dead())
    lease.RENEW_SECONDS = 0.1
    task.sleep(0.3)
    assert.is_false(is_dead())
    lease.RENEW_SECONDS = renewing
    task.sleep(0.3)
    assert.is_true(is_dead())
  end)
end)
