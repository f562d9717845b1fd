local proc = require "kt.proc"
local task = require "kt.task"

local function sh(script, opts)
  opts = opts or {}
  opts.argv = { "/bin/sh", "-c", script }
  opts.env = opts.env or { PATH = "/usr/bin:/bin" }
  return assert(proc.spawn(opts))
end

local function drain(child)
  local lines = {}
  for line in function() return child:next() end do lines[#lines + 1] = line end
  return lines
end

describe("kt.proc", function()
  it("reads lines to the end", function()
    local child = sh("cat; echo err >&2; exit 4", { stdin = "a\n\nb" })
    assert.same({ "a", "", "b" }, drain(child))
    assert.is_nil(child:next())
    assert.same({ exit = 4 }, child:status())
    child:close()
    child:close()
    assert.has_error(function() child:next() end)
  end)
  it("has the environment it was given and no other", function()
    local child = sh("/usr/bin/env | sort", { env = { A = "1", B = "x y" }, stdin = "" })
    local lines = table.concat(drain(child), "\n")
    assert.truthy(lines:find("A=1\nB=x y", 1, true))
    assert.falsy(lines:find("HOME=", 1, true))
    child:close()
  end)
  it("writes when asked", function()
    local child = sh "read x; echo got $x; read y; echo got $y"
    assert(child:write "1\n")
    assert.equal("got 1", child:next())
    assert(child:write "2\n")
    child:close_stdin()
    assert.equal("got 2", child:next())
    child:close()
  end)
  it("waits no longer than told", function()
    local child = sh "echo up; sleep 1000"
    assert.equal("up", child:next(5))
    local line, err = child:next(0.05)
    assert.same({ nil, "deadline_exceeded" }, { line, err.code })
    assert.is_nil(child:status())
    child:stop(1)
    assert.is_nil((child:next()))
    assert.same({ signal = 15 }, child:status())
    child:close()
  end)
  it("bounds what it holds while nobody reads", function()
    local child = sh "head -c 20000000 /dev/zero | tr '\\0' x | fold -w 1000; echo"
    task.sleep(0.3)
    local bytes = 0
    for _, line in ipairs(drain(child)) do bytes = bytes + #line end
    assert.equal(20000000, bytes)
    child:close()
  end)
  it("kills a child whose line is too long", function()
    local child = sh("head -c 1000000 /dev/zero", { line_max = 1000 })
    local line, err = child:next()
    assert.same({ nil, "output_limit" }, { line, err.code })
    child:close()
  end)
  it("lets a task be cancelled while it waits", function()
    local child = sh "sleep 1000"
    local waiting = task.spawn(function() return child:next() end)
    task.sleep(0)
    waiting:cancel()
    local line, err = waiting:join()
    assert.same({ nil, "cancelled" }, { line, err.code })
    child:close()
  end)
  it("refuses wrong use", function()
    local none, err = proc.spawn { argv = { "/nonexistent/x" } }
    assert.same({ nil, "not_found" }, { none, err.code })
    for _, opts in ipairs { {}, { argv = {} }, { argv = { "sh" } }, { argv = { "/bin/sh", 1 } },
      { argv = { "/bin/true" }, env = { A = 1 } }, { argv = { "/bin/true" }, line_max = -1 } } do
      assert.has_error(function() proc.spawn(opts) end)
    end
  end)
end)
