-- The clock of the machine jumps: runs go on by their own time, nothing is counted backwards.
local clock = require "kt.clock"
local engine = require "engine"
local support = require "engine.support"
local task = require "kt.task"

local HOUR = 3600 * 1000

describe("a clock that jumps", function()
  setup(support.open)
  before_each(support.start)
  after_each(function()
    clock.set()
    support.stop()
  end)
  teardown(support.close)

  local function jump(ms)
    clock.set(clock.now() + ms)
  end

  local source = [[workflow { name = "steps", run = function()
    local times = {}
    for i = 1, 6 do time.sleep(0.05) times[i] = time.now() end
    return times
  end }]]

  for _, ms in ipairs { -HOUR, HOUR / 60, -24 * HOUR } do
    it(("%+d s, while a run is on its way"):format(ms / 1000), function()
      local project, instance = support.project(source)
      local accepted = support.accept(project, instance)
      local follower = assert(engine.follow.open(project.id, accepted.execution_id, 0))
      assert(follower:next(10))
      follower:close()
      jump(ms)
      local doc = support.ended(project, accepted.execution_id)
      assert.equal("completed", doc.status)
      assert.is_true(doc.duration_ms >= 0)
      local last = 0
      for _, at in ipairs(doc.result.output) do
        assert.is_true(at >= last, "its time runs backwards")
        last = at
      end
      support.events(project, accepted.execution_id) -- without a gap
      assert.equal("completed", support.run(project, instance).status, "the next one runs too")
    end)
  end

  it("forward beyond the timeout of a run, ends it as timed out", function()
    local project, instance = support.project [[workflow { name = "long", run = function() time.sleep(60) end }]]
    local accepted = support.accept(project, instance, { timeout_seconds = 30 })
    repeat
      task.sleep(0.01)
    until engine.execution.get(project, accepted.execution_id).status == "waiting"
    jump(2 * HOUR)
    require("engine.ready").noted:signal()
    local doc = support.ended(project, accepted.execution_id)
    assert.same({ "timed_out", "deadline" }, { doc.status, doc.stop_reason })
  end)
end)
