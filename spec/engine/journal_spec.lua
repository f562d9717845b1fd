local journal = require "engine.journal"
local json = require "json"
local value = require "value"

local function read(path)
  local handle = assert(io.open(path, "rb"))
  local text = handle:read("*a")
  handle:close()
  return text
end

local function unhex(text)
  return (text:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end))
end

-- What a record of the golden file is in the journal.
local function record_of(golden)
  if golden.kind == "event" then
    return { t = golden.t, d = golden.d, s = golden.s, a = golden.a, c = golden.c }
  end
  return { n = golden.n, c = golden.c, h = golden.h, o = golden.o, a = golden.a,
    r = value.binary(value.encode(golden.answer)) }
end

describe("the journal's chunk format", function()
  local golden = assert(json.decode(read("tests/golden/journal_v1.json")))

  it("writes the bytes of the golden file", function()
    local parts = {}
    for i, record in ipairs(golden.records) do parts[i] = journal.pack(record_of(record)) end
    assert.equal(golden.v, journal.VERSION)
    assert.equal(unhex(golden.events), table.concat(parts))
  end)

  it("reads the golden file back", function()
    local records = assert(journal.unpack(unhex(golden.events)))
    assert.equal(#golden.records, #records)
    for i, record in ipairs(records) do
      assert.equal(journal.pack(record_of(golden.records[i])), journal.pack(record))
    end
    local event = journal.public_event(records[2], "exec_1_0")
    assert.equal("2026-01-02T03:04:05.700Z", event.at)
    assert.equal("dataset.loaded", event.type)
    assert.equal(2, event.seq)
    assert.is_nil(event.c)
  end)

  it("refuses what is cut off anywhere, and what is no record", function()
    local bytes = unhex(golden.events)
    local ends, at = { [0] = true }, 0
    for _, record in ipairs(golden.records) do
      at = at + #journal.pack(record_of(record))
      ends[at] = true
    end
    for size = 1, #bytes - 1 do
      local records, err = journal.unpack(bytes:sub(1, size))
      if ends[size] then
        assert.truthy(records)
      else
        assert.is_nil(records)
        assert.equal("store_corrupt", err.code)
      end
    end
    local records, err = journal.unpack(("\255"):rep(64))
    assert.is_nil(records)
    assert.equal("store_corrupt", err.code)
  end)

  it("refuses a record without a time that a date can have, or an event without a number", function()
    for _, record in ipairs {
      { t = "log.message", s = 1 }, { t = "log.message", s = 1, a = 0.5 }, { t = "log.message", s = 1, a = -1 },
      { t = "log.message", s = 1, a = 253402300800000 }, { t = "log.message", a = 1 },
      { t = "log.message", s = "1", a = 1 }, { t = 1, s = 1, a = 1 }, { n = "time.sleep" },
    } do
      local records, err = journal.unpack(journal.pack(record))
      assert.is_nil(records)
      assert.equal("store_corrupt", err.code)
    end
    assert.truthy(journal.unpack(journal.pack { t = "log.message", s = 1, a = 253402300799999 }))
  end)

  it("names a chunk by its first seq so that names sort as numbers", function()
    assert.equal("exec_1_a:0000000009", journal.chunk_id("exec_1_a", 9))
    assert.is_true(journal.chunk_id("exec_1_a", 9) < journal.chunk_id("exec_1_a", 10))
    assert.equal(10, journal.first_seq(journal.chunk_id("exec_1_a", 10)))
  end)
end)
