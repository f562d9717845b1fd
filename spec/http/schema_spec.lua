local json = require "json"
local schema = require "http.schema"
local T = require "http.types"

local thing = T.object("Thing", {
  {"thing_id", T.slug, required = true, immutable = true, from_id = true},
  {"version", T.int(1), ro = true},
  {"name", T.str{max = 5, min = 1}, required = true},
  {"kind", T.enum{"a", "b"}, default = "a"},
  {"limit_usd", T.usd, nullable = true},
  {"at", T.ts, nullable = true},
  {"day", T.date, nullable = true},
  {"count", T.int(0, 10), default = 3},
  {"tags", T.list(T.str{max = 3}, {max = 2, unique = true}), default = json.array{}},
  {"open", T.map{{"rules", T.list(T.str()), nullable = true}}, default = {}},
  {"inner", T.object(nil, {{"x", T.int(), default = 7}, {"y", T.bool, nullable = true}}), default = {}},
})

local function faults(text, mode)
  local _, checked = schema.check(thing, json.decode(text), mode or "create")
  local out = {}
  for _, e in ipairs(checked.errors) do out[e.pointer] = e.code end
  return out
end

describe("a body", function()
  it("is filled with its defaults, nested ones too", function()
    local plain = assert(schema.check(thing, json.decode '{"thing_id":"t-1","name":"N"}', "create"))
    assert.equal("a", plain.kind)
    assert.equal(3, plain.count)
    assert.equal(7, plain.inner.x)
    assert.equal(json.null, plain.inner.y)
    assert.equal(json.null, plain.limit_usd)
    assert.equal("[]", json.encode(plain.tags))
    assert.equal("{}", json.encode(plain.open))
  end)

  it("gets all its faults at once, each with its place", function()
    assert.same({
      ["/thing_id"] = "pattern", ["/name"] = "length", ["/kind"] = "enum", ["/limit_usd"] = "format",
      ["/at"] = "format", ["/day"] = "format", ["/count"] = "max", ["/tags/0"] = "length", ["/tags/1"] = "type",
      ["/open/rules"] = "type", ["/inner/x"] = "type", ["/inner/z~1z"] = "unknown_field", ["/nope"] = "unknown_field",
      ["/version"] = "immutable",
    }, faults [[{"thing_id":"../x","name":"too long","kind":"c","limit_usd":"1.0000000001","at":"yesterday",
      "day":"2026-02-30","count":11,"tags":["long!",4],"open":{"rules":"no"},"inner":{"x":"1","z/z":1},"nope":1,
      "version":1}]])
  end)

  it("must have what is required, and no null where none may be", function()
    assert.same({["/thing_id"] = "required", ["/name"] = "type"}, faults '{"name":null}')
  end)

  it("must be an object", function()
    assert.same({[""] = "type"}, faults "[]")
    assert.same({[""] = "type"}, faults '"x"')
  end)

  it("counts characters, not bytes", function()
    assert.same({}, faults '{"thing_id":"a","name":"äöüßé"}')
    assert.same({["/name"] = "length"}, faults '{"thing_id":"a","name":"äöüßéx"}')
  end)

  it("refuses NUL, fractions, huge numbers and items that are there twice", function()
    assert.same({["/name"] = "format", ["/count"] = "type"}, faults '{"thing_id":"a","name":"a\\u0000b","count":1.5}')
    assert.same({["/count"] = "max"}, faults '{"thing_id":"a","name":"a","count":1e300}')
    assert.same({["/tags/1"] = "duplicate"}, faults '{"thing_id":"a","name":"a","tags":["x","x"]}')
    assert.same({["/tags"] = "max"}, faults '{"thing_id":"a","name":"a","tags":["x","y","z"]}')
  end)

  it("bounds open maps in depth and size, and takes any names in them", function()
    local deep = ('{"a":'):rep(17) .. "1" .. ("}"):rep(17)
    assert.same({["/open"] = "max"}, faults('{"thing_id":"a","name":"a","open":' .. deep .. "}"))
    assert.same({["/open"] = "length"},
      faults('{"thing_id":"a","name":"a","open":{"x":"' .. ("y"):rep(65536) .. '"}}'))
    assert.same({}, faults '{"thing_id":"a","name":"a","open":{"PRO-009.pct":"5","$ref":"#"}}')
  end)
end)

describe("a PUT", function()
  it("may repeat what cannot be changed, when it is equal", function()
    local stored = schema.to_stored(thing, assert(schema.check(thing, json.decode '{"thing_id":"a","name":"N"}', "create")))
    stored.version = 4
    local current = schema.to_plain(thing, stored)
    local _, same = schema.check(thing, json.decode '{"thing_id":"a","version":4,"name":"M"}', "replace")
    assert.same({}, schema.check_repeated(same, current))
    local _, other = schema.check(thing, json.decode '{"thing_id":"b","version":5,"name":"M"}', "replace")
    local errors = schema.check_repeated(other, current)
    assert.equal(2, #errors)
    for _, e in ipairs(errors) do assert.equal("immutable", e.code) end
  end)

  it("need not repeat it", function()
    assert(schema.check(thing, json.decode '{"name":"M"}', "replace"))
  end)
end)

describe("the stored form", function()
  it("has the id as _id, times as dates and money as nano-USD, and comes back the same", function()
    local plain = assert(schema.check(thing, json.decode
      '{"thing_id":"a","name":"N","limit_usd":"12.500","at":"2026-01-02T04:04:05.6789+01:00","day":"2024-02-29"}', "create"))
    local stored = schema.to_stored(thing, plain)
    assert.equal("a", stored._id)
    assert.is_nil(stored.thing_id)
    assert.equal("12500000000", tostring(stored.limit_nano))
    assert.equal(1767323045678, stored.at.ms)
    local back = schema.to_plain(thing, stored)
    assert.equal("12.5", back.limit_usd)
    assert.equal("2026-01-02T03:04:05.678Z", back.at)
    assert.equal("2024-02-29", back.day)
    assert.equal("a", back.thing_id)
    assert.equal(json.null, back.version)
  end)
end)

describe("query parameters", function()
  local fields = {{"limit", T.int(1, 500), default = 50}, {"day", T.date}, {"all", T.bool}, {"kind", T.enum{"a"}}}
  it("are text with types", function()
    local q, errors = schema.check_query(fields, {limit = {"7"}, all = {"true"}})
    assert.same({}, errors)
    assert.same({limit = 7, all = true}, q)
  end)
  it("are named in their faults", function()
    local _, errors = schema.check_query(fields,
      {limit = {"0"}, day = {"x"}, all = {"yes"}, kind = {"a", "a"}, more = {"1"}})
    local out = {}
    for _, e in ipairs(errors) do out[e.parameter] = e.code end
    assert.same({limit = "min", day = "format", all = "type", kind = "duplicate", more = "unknown_field"}, out)
  end)
end)

describe("differences", function()
  it("name the leaves that changed", function()
    assert.same({{pointer = "/a/b", from = 1, to = 2}, {pointer = "/c", from = json.null, to = "x"}},
      schema.diff({a = {b = 1, d = 1}}, {a = {b = 2, d = 1}, c = "x"}))
  end)
end)
