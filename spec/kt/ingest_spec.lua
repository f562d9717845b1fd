local crypto = require "kt.crypto"
local file = require "kt.file"
local ingest = require "kt.ingest"
local task = require "kt.task"

describe("kt.ingest", function()
  local dir
  assert(ingest.open { format = "csv", path = os.tmpname() }):abort() -- makes the threads, which stay
  before_each(function()
    dir = "/tmp/kontor-spec-" .. crypto.uuid7()
    assert(file.mkdir(dir))
  end)
  after_each(function() file.remove(dir) end)

  local function upload(opts, bytes, step)
    opts.path = dir .. "/t"
    local sink = assert(ingest.open(opts))
    for at = 1, #bytes, step or #bytes do
      local ok, err = sink:write(bytes:sub(at, at + (step or #bytes) - 1))
      if not ok then
        sink:abort()
        return nil, err
      end
    end
    local info, err = sink:finish()
    sink:abort()
    return info, err
  end

  local csv = "id,amount\n1,2.50\nx,\n"
  local function unhex(s) return (s:gsub("%s", ""):gsub("..", function(h) return string.char(tonumber(h, 16)) end)) end
  local gz = unhex [[
    1f8b0800000000000203cb4cd149cccd2fcd2be132d431d23335e00200a7b7a67d11000000
    1f8b0800000000000203abd0e102004a62477c03000000]] -- csv in two members, as gzip files may be joined

  it("counts, hashes and keeps what came", function()
    for _, step in ipairs { 1, 3, 1000 } do
      local info = assert(upload({ format = "csv" }, csv, step))
      assert.same({ 2, #csv, crypto.sha256(csv), { "id", "amount" }, 0, {} },
        { info.rows, info.bytes, info.sha256, info.columns, info.rejected, info.errors })
      assert.equal(csv, file.read(dir .. "/t"))
      assert(file.remove(dir .. "/t"))
    end
    for _, step in ipairs { 1, 7, 1000 } do
      local info = assert(upload({ format = "csv", gzip = true }, gz, step))
      assert.same({ 2, #csv, crypto.sha256(csv) }, { info.rows, info.bytes, info.sha256 })
      assert.equal(csv, file.read(dir .. "/t"))
    end
    local lines = '{"id":"1","n":1.5}\n{"m":null}\n'
    local info = assert(upload({ format = "ndjson" }, lines))
    assert.same({ 2, { "id", "n", "m" } }, { info.rows, info.columns })
  end)

  it("lists what was wrong and keeps the rest", function()
    local info = assert(upload({ format = "csv" }, "a,b\n1\n2,\255\n3,4\n"))
    assert.equal(2, info.rows)
    assert.equal(2, info.rejected)
    assert.same({ 2, nil, "ragged_row" }, { info.errors[1].line, info.errors[1].column, info.errors[1].code })
    assert.same({ 3, "b", "not_utf8" }, { info.errors[2].line, info.errors[2].column, info.errors[2].code })
  end)

  it("refuses what cannot be read and leaves no file", function()
    local cases = {
      { {}, "", "no header" }, { {}, "a,a\n", "twice" }, { {}, "a,b\n1,\"2\n", "never closed" },
      { {}, (","):rep(1000000), "1024 columns" }, { { gzip = true }, csv, "damaged" },
      { { gzip = true }, gz:sub(1, 20), "too soon" }, { { gzip = true }, "", "empty" },
    }
    for _, case in ipairs(cases) do
      case[1].format = "csv"
      local info, err = upload(case[1], case[2], 65536)
      assert.is_nil(info)
      assert.equal("data_rejected", err.code)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
      assert.is_nil((file.stat(dir .. "/t")))
    end
    local _, err = upload({ format = "csv", max_bytes = 10 }, csv)
    assert.equal("body_too_large", err.code)
    assert.is_nil((file.stat(dir .. "/t")))
  end)

  it("says why a file cannot be made", function()
    local sink, err = ingest.open { format = "csv", path = dir .. "/none/t" }
    assert.same({ nil, "not_found" }, { sink, err.code })
    assert.has_error(function() ingest.open { format = "xml", path = dir .. "/t" } end)
  end)

  it("reads a whole file, and keeps none when it has no path", function()
    for name, bytes in pairs { plain = csv, packed = gz } do
      assert(file.write(dir .. "/" .. name, bytes))
      local sink = assert(ingest.open { format = "csv", gzip = name == "packed" })
      assert(sink:feed(dir .. "/" .. name))
      local info = assert(sink:finish())
      assert.same({ 2, crypto.sha256(csv), crypto.sha256(bytes) }, { info.rows, info.sha256, info.fed })
      sink:abort()
    end
    assert.same(2, #file.list(dir))
    local sink = assert(ingest.open { format = "csv" })
    assert.equal("not_found", select(2, sink:feed(dir .. "/none")).code)
    sink:abort()
  end)

  it("takes no more after an end, an error or an abort", function()
    local sink = assert(ingest.open { format = "csv", path = dir .. "/t" })
    assert(sink:write(csv))
    sink:abort()
    assert.is_nil((file.stat(dir .. "/t")))
    assert.equal("invalid_state", select(2, sink:write("x")).code)
    sink = assert(ingest.open { format = "csv", path = dir .. "/t" })
    assert.is_nil((sink:write("a,a\n")))
    assert.equal("invalid_state", select(2, sink:finish()).code)
  end)

  it("lets go of a sink whose task was cancelled", function()
    local before = task.counts().ops
    local t = task.spawn(function()
      local sink = assert(ingest.open { format = "csv", path = dir .. "/t" })
      task.defer(function() sink:abort() end)
      while sink:write(("a"):rep(600) .. "\n") do end
    end)
    task.sleep(0.002)
    t:cancel()
    t:join()
    task.sleep(0.05)
    assert.equal(before, task.counts().ops)
    assert.is_nil((file.stat(dir .. "/t")))
  end)
end)
