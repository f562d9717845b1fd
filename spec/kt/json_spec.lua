local json = require "json"
local value = require "value"

describe("json", function()
  it("is the module cjson, too", function()
    assert.equal(json.decode, require("cjson").decode)
    assert.equal(json.null, require("cjson").null)
  end)

  it("keeps what lua-cjson loses", function()
    for _, text in ipairs { "[]", "{}", "[[],{}]", "123456789012345", "9007199254740991", "-0.1",
      "9223372036854775807", '"ä/"', '{"a":[],"b":{}}' } do
      assert.equal(text, json.encode(json.decode(text)))
    end
  end)

  it("says where a text is wrong", function()
    local v, err = json.decode('{\n  "a": 1,\n  "b": }')
    assert.is_nil(v)
    assert.equal("invalid_json", err.code)
    assert.equal(3, err.line)
    for _, bad in ipairs { "", "[1,]", "{'a':1}", "[01]", "[NaN]", '{"a":1,"a":2}', '"\255"', "[1]]" } do
      assert.is_nil((json.decode(bad)))
    end
  end)

  it("says what in a value is wrong", function()
    assert.error_matches(function() json.encode { a = { 1, { b = print } } } end, "a%[2%]%.b: a function")
    assert.error_matches(function() json.encode { 0 / 0 } end, "NaN")
    assert.error_matches(function() json.encode { 1, nil, 3 } end, "holes")
    assert.error_matches(function() json.encode { 1, a = 2 } end, "array and of a map")
  end)

  it("writes keys in order", function()
    assert.equal('{"a":1,"b":2,"c":3}', json.encode { c = 3, b = 2, a = 1 })
    assert.equal('{"c":3,"a":1,"b":2}', json.encode(json.ordered({ c = 3, b = 2, a = 1 }, { "c" })))
    assert.equal('{\n  "a": [\n    1\n  ]\n}', json.encode({ a = { 1 } }, { indent = 2 }))
  end)

  it("writes dates and large integers", function()
    assert.equal('["1970-01-01T00:00:00.001Z",9007199254740993]',
      json.encode { value.date(1), value.int64 "9007199254740993" })
  end)
end)

describe("value", function()
  it("gives equal values equal bytes", function()
    local a, b = {}, {}
    for i = 1, 100 do a["k" .. i], b["k" .. 101 - i] = i, 101 - i end
    assert.equal(value.hash(value.encode(a)), value.hash(value.encode(b)))
    assert.same(a, value.decode(value.encode(b)))
  end)

  it("shows documents through a view, with every field", function()
    local view = value.view {
      { "_id", "id" }, { "cost", "cost_usd", as = "nano_usd" }, { "gone" },
      { "steps", sub = value.view { { "n" } } },
    }
    local doc = value.doc { _id = "x", cost = 1500, secret = true, steps = { { n = 1, hidden = 2 } } }
    assert.equal('{"id":"x","cost_usd":"0.0000015","gone":null,"steps":[{"n":1}]}', value.doc_json(doc, view))
  end)

  it("refuses what it cannot keep", function()
    for _, bad in ipairs { { print }, { x = { 0 / 0 } }, { "\255" }, { [1.5] = 1 } } do
      assert.has_error(function() value.encode(bad) end)
    end
    assert.has_error(function() value.decode "nonsense" end)
  end)
end)
