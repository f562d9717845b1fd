local crypto = require "kt.crypto"
local file = require "kt.file"
local task = require "kt.task"
local watch = require "kt.watch"

describe("kt.watch", function()
  it("calls a task for a changed file", function()
    local dir = "/tmp/kontor-spec-" .. crypto.uuid7()
    assert(file.mkdir(dir .. "/sub"))
    local seen, told = {}, task.event()
    local w = assert(watch.dir(dir, function(path)
      task.sleep(0) -- it may wait
      seen[path] = true
      told:signal()
    end))
    assert(file.write(dir .. "/sub/x.lua", "return 1"))
    while not seen["sub/x.lua"] do assert(told:wait(5)) end
    w:close()
    w:close()
    file.remove(dir)
  end)
  it("says what it cannot watch", function()
    local w, err = watch.dir("/nonexistent/x", print)
    assert.same({ nil, "not_found" }, { w, err.code })
  end)
end)
