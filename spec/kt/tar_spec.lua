local crypto = require "kt.crypto"
local file = require "kt.file"
local tar = require "kt.tar"
local task = require "kt.task"

describe("kt.tar", function()
  local dir
  tar.open("/none") -- makes the threads, which stay
  before_each(function()
    dir = "/tmp/kontor-spec-" .. crypto.uuid7()
    assert(file.mkdir(dir .. "/in/db"))
    assert(file.mkdir(dir .. "/out"))
  end)
  after_each(function() file.remove(dir) end)

  local function all(pack)
    local list = {}
    while true do
      local bytes, err = pack:read()
      assert.is_nil(err)
      if not bytes then return table.concat(list) end
      list[#list + 1] = bytes
    end
  end

  -- The entries of a tar, with their bytes.
  local function entries(path, max)
    local reader, err = tar.open(path)
    if not reader then return nil, err end
    local list, entry = {}, nil
    repeat
      entry, err = reader:next()
      if entry and entry.kind == "file" then
        local got
        got, err = reader:extract(dir .. "/out/" .. #list, max or 2 ^ 40)
        entry.sha256 = got and got.sha256
        if got then assert.equal(entry.size, got.size) end
      end
      if entry and not err then list[#list + 1] = entry end
    until not entry or err
    reader:close()
    return not err and list or nil, err
  end

  local function shell(line, ...) assert.equal(0, os.execute(("cd %s && " .. line):format(dir, ...))) end

  it("packs files as long as it said, for GNU tar and for itself", function()
    local sizes = {0, 1, 511, 512, 513, 300000}
    local names = {}
    for i, n in ipairs(sizes) do
      names[i] = "db/f" .. i
      assert(file.write(dir .. "/in/" .. names[i], ("x"):rep(n)))
    end
    local pack = assert(tar.pack(dir .. "/in", names))
    local bytes = all(pack)
    assert.equal(pack:size(), #bytes)
    assert.is_nil((pack:read()))
    pack:close()
    assert.has_error(function() pack:size() end)
    assert(file.write(dir .. "/t.tar", bytes))
    shell("mkdir gnu && tar -xf t.tar -C gnu && diff -r in gnu && gzip -k t.tar")
    for _, name in ipairs{"t.tar", "t.tar.gz"} do
      local list = assert(entries(dir .. "/" .. name))
      assert.equal(#sizes, #list)
      for i, e in ipairs(list) do
        assert.same({name = names[i], kind = "file", size = sizes[i], sha256 = crypto.sha256(("x"):rep(sizes[i]))}, e)
      end
      shell("rm out/*")
    end
  end)

  it("writes and reads sizes beyond those of the old format", function()
    shell("truncate -s 9G in/large")
    local pack = assert(tar.pack(dir .. "/in", {"large"}))
    assert.is_true(pack:size() > 9 * 2 ^ 30)
    assert(file.write(dir .. "/t.tar", (pack:read())))
    pack:close()
    local reader = assert(tar.open(dir .. "/t.tar"))
    assert.same({name = "large", kind = "file", size = 9 * 2 ^ 30}, reader:next())
    local got, err = reader:extract(dir .. "/out/large", 65536)
    assert.same({nil, "body_too_large"}, {got, err.code})
    assert.is_true(file.stat(dir .. "/out/large").size <= 65536)
    reader:close()
    shell("tar -tvf t.tar 2>/dev/null | grep -q 9663676416")
  end)

  it("says what an entry is", function()
    shell("echo a >in/file && ln in/file in/hard && ln -s /etc/passwd in/soft && mkfifo in/pipe && tar -cf t.tar -C in file hard soft pipe db")
    local list = assert(entries(dir .. "/t.tar"))
    local kinds = {}
    for i, e in ipairs(list) do kinds[i] = e.name .. ": " .. e.kind end
    assert.same({"file: file", "hard: hard link", "soft: symbolic link", "pipe: pipe", "db/: dir"}, kinds)
    shell("truncate -s 1M in/holes && echo x >>in/holes && tar -cSf s.tar -C in holes")
    assert.equal("sparse file", assert(entries(dir .. "/s.tar"))[1].kind)
  end)

  it("refuses what is no tar, cut off, or packed twice", function()
    assert(file.write(dir .. "/in/a", ("y"):rep(100000)))
    shell("tar -cf t.tar -C in a && head -c 60000 t.tar >cut.tar && gzip -k t.tar && head -c 100 t.tar.gz >cut.gz && gzip -c t.tar.gz >twice.gz"
      .. " && echo hello >text && : >empty && head -c 20000 /dev/urandom >noise")
    for _, name in ipairs{"cut.tar", "cut.gz", "twice.gz", "text", "empty", "noise"} do
      local list, err = entries(dir .. "/" .. name)
      assert.same({name, nil, "data_rejected"}, {name, list, err and err.code})
      shell("rm -f out/*")
    end
    assert.equal("not_found", select(2, entries(dir .. "/none")).code)
    assert.equal("not_found", select(2, tar.pack(dir .. "/in", {"none"})).code)
    assert.equal("invalid_argument", select(2, tar.pack(dir, {"in"})).code)
  end)

  it("does not follow a chain of headers for ever", function()
    -- 100,000 headers of long names, each for the next one.
    local header = ("././@LongLink"):sub(1, 100) .. ("\0"):rep(100 - 13) .. "0000644\0" .. "0000000\0" .. "0000000\0" .. "00000000005\0"
      .. "00000000000\0"
    local rest = "L" .. ("\0"):rep(100) .. "ustar  \0" .. ("\0"):rep(247)
    local sum = 8 * 32
    for c in (header .. rest):gmatch(".") do sum = sum + c:byte() end
    local block = header .. ("%06o\0 "):format(sum) .. rest
    assert.equal(512, #block)
    assert(file.write(dir .. "/t.tar", (block .. "name\0" .. ("\0"):rep(507)):rep(100000)))
    local list, err = entries(dir .. "/t.tar")
    assert.same({nil, "data_rejected"}, {list, err.code})
  end)

  it("stops soon when its task is cancelled", function()
    shell("truncate -s 9G in/large")
    local pack = assert(tar.pack(dir .. "/in", {"large"}))
    assert(file.write(dir .. "/t.tar", (pack:read())))
    pack:close()
    shell("truncate -s 10G t.tar")
    local reader
    local t = task.spawn(function()
      reader = assert(tar.open(dir .. "/t.tar"))
      assert(reader:next())
      return reader:extract(dir .. "/out/large", 2 ^ 40)
    end)
    while not file.stat(dir .. "/out/large") do assert.is_false(t:done()) end
    t:cancel()
    t:join()
    while reader:busy() do task.sleep(0.001) end
    assert.is_true(file.stat(dir .. "/out/large").size < 9 * 2 ^ 30)
    reader:close()
  end)
end)
