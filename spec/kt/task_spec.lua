local task = require "kt.task"

describe("kt.task", function()
  it("joins results, nils included, and failures as values", function()
    local t = task.spawn(function(a, b)
      task.sleep(0.001)
      return a, nil, b
    end, 1, 3)
    assert.same({ 1, nil, 3, n = 3 }, { n = select("#", t:join()), t:join() })
    local value, err = task.spawn(function() error { code = "not_found", message = "gone" } end):join()
    assert.is_nil(value)
    assert.equal("not_found", err.code)
    value, err = task.spawn(function() return task.nothing.here end):join()
    assert.is_nil(value)
    assert.equal("internal", err.code)
    assert.matches("task_spec.lua:%d+", err.message)
  end)

  it("answers cancelled to the pending call and raises it from later ones", function()
    local first, later
    local t = task.spawn(function()
      local _, err = task.sleep(60)
      first = err.code
      local _, raised = pcall(task.sleep, 60)
      later = raised.code
    end)
    task.yield()
    t:cancel()
    t:join()
    assert.same({ "cancelled", "cancelled" }, { first, later })
  end)

  it("gives children the deadline and the end of their parent", function()
    local seen = {}
    local parent = task.spawn(function()
      task.deadline(0.03)
      task.spawn(function()
        seen.left = task.time_left()
        local _, err = task.sleep(60)
        seen.code = err.code
      end):join()
    end)
    parent:join()
    task.sleep(0.01)
    assert.is_true(seen.left <= 0.03)
    -- By its deadline, or by the end of its parent, whose own comes in the same moment.
    assert.is_true(seen.code == "deadline_exceeded" or seen.code == "cancelled", seen.code)

    local orphan
    task.spawn(function()
      orphan = task.spawn(function() task.sleep(60) end)
      task.yield()
    end):join()
    orphan:join()
    assert.is_true(orphan:done())
  end)

  it("wakes those that wait, and no later one", function()
    local event, woken = task.event(), 0
    local waiting = {}
    for i = 1, 5 do
      waiting[i] = task.spawn(function()
        if event:wait(10) then woken = woken + 1 end
      end)
    end
    task.yield()
    event:signal()
    for i = 1, 5 do waiting[i]:join() end
    assert.equal(5, woken)
    local ok, err = event:wait(0.005)
    assert.is_nil(ok)
    assert.equal("deadline_exceeded", err.code)
  end)

  it("waits through coroutines and refuses to wait in a sort", function()
    local generate = coroutine.wrap(function()
      for i = 1, 3 do
        task.sleep(0.001)
        coroutine.yield(i)
      end
    end)
    assert.same({ 1, 2, 3 }, { generate(), generate(), generate() })
    local ok, err = pcall(table.sort, { 2, 1 }, function() task.yield() end)
    assert.is_false(ok)
    assert.matches("not possible inside", err.message)
  end)

  it("runs closers however a task ends", function()
    local closed = {}
    local function body(how)
      return function()
        task.defer(function() closed[#closed + 1] = how end)
        if how == "error" then error "x" end
        if how == "cancel" then task.sleep(60) end
      end
    end
    for _, how in ipairs { "return", "error", "cancel" } do
      local t = task.spawn(body(how))
      task.yield()
      t:cancel()
      t:join()
    end
    assert.same({ "return", "error", "cancel" }, closed)
  end)
end)
