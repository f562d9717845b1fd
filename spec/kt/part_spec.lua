local crypto = require "kt.crypto"
local file = require "kt.file"
local parts = require "kt.part"

describe("kt.part", function()
  local dir, path
  parts.open(os.tmpname()):close() -- makes the threads, which stay
  before_each(function()
    dir = "/tmp/kontor-spec-" .. crypto.uuid7()
    path = dir .. "/p"
    assert(file.mkdir(dir))
  end)
  after_each(function() file.remove(dir) end)

  it("goes on where it was, and hashes what is new", function()
    local part = assert(parts.open(path))
    assert(part:write("abc"))
    assert.same({ size = 3 }, part:sync())
    part:close()
    part = assert(parts.open(path, true))
    assert.equal(3, part:size())
    assert(part:write("de"))
    assert(part:write("f"))
    assert.same({ size = 6, sha256 = crypto.sha256("def") }, part:sync())
    assert(part:cut(1))
    assert.equal(1, part:size())
    assert(part:write("z"))
    assert.has_error(function() part:cut(3) end)
    part:close()
    assert.equal("az", file.read(path))
    assert.has_error(function() part:size() end)
  end)

  it("has one writer, until that one lets go", function()
    local part = assert(parts.open(path))
    local other, err = parts.open(path)
    assert.same({ nil, "conflict" }, { other, err.code })
    assert(part:remove())
    -- The name is free; who holds the old file writes into nothing.
    other = assert(parts.open(path))
    assert(part:write("lost"))
    part:close()
    assert.equal(0, other:size())
    other:close()
  end)

  it("says what is wrong with a path", function()
    assert.equal("not_found", select(2, parts.open(dir .. "/none/p")).code)
    os.execute("ln -s " .. path .. " " .. dir .. "/link")
    assert.is_nil((parts.open(dir .. "/link")))
  end)
end)
