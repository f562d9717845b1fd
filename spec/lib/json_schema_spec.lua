local json = require "json"
local json_schema = require "lib.json_schema"

local function faults(schema)
  local errors = {}
  json_schema.check_schema(json.decode(schema), "", errors)
  local list = {}
  for i, e in ipairs(errors) do list[i] = e.pointer .. " " .. e.code end
  return list
end

local function check(schema, v)
  assert.same({}, faults(schema))
  local list = {}
  for i, e in ipairs(json_schema.check(json.decode(schema), (json.decode("[" .. v .. "]"))[1])) do
    list[i] = e.pointer .. " " .. e.code
  end
  return list
end

describe("a JSON Schema", function()
  it("is refused where it says what is not checked", function()
    assert.same({}, faults [[{"type":["object","null"],"properties":{"a":{"items":{"enum":[1,null]}}},"required":["a"],
      "additionalProperties":{"type":"string"},"title":"t","description":"d","default":{},"examples":[1],"$schema":"s"}]])
    for schema, fault in pairs {
      ['[]'] = " type", ['{"pattern":"a"}'] = "/pattern unknown_field", ['{"format":"date"}'] = "/format unknown_field",
      ['{"$ref":"#"}'] = "/$ref unknown_field", ['{"type":"text"}'] = "/type enum", ['{"type":["string","x"]}'] = "/type/1 enum",
      ['{"required":"a"}'] = "/required type", ['{"required":[1]}'] = "/required/0 type", ['{"enum":[]}'] = "/enum type",
      ['{"minLength":-1}'] = "/minLength type", ['{"maxItems":1.5}'] = "/maxItems type", ['{"minimum":"1"}'] = "/minimum type",
      ['{"properties":{"a/b":{"x":1}}}'] = "/properties/a~1b/x unknown_field", ['{"items":[]}'] = "/items type",
      ['{"additionalProperties":1}'] = "/additionalProperties type", ['{"anyOf":[]}'] = "/anyOf type",
      ['{"anyOf":[{},{"not":{}}]}'] = "/anyOf/1/not unknown_field", ['{"uniqueItems":1}'] = "/uniqueItems type",
    } do
      assert.same({ fault }, faults(schema), schema)
    end
  end)

  it("fits values", function()
    for _, case in ipairs {
      { '{"type":"integer"}', "3" }, { '{"type":"integer"}', "3.0" }, { '{"type":"integer"}', "9007199254740993" },
      { '{"type":"number"}', "3" }, { '{"type":["string","null"]}', "null" }, { '{"type":"array"}', "[]" }, { '{"type":"object"}', "{}" },
      { '{"minLength":2,"maxLength":2}', '"üü"' }, { '{"minLength":2}', "1" }, { '{"enum":[{"a":[1]},null]}', '{"a":[1]}' },
      { '{"const":null}', "null" }, { '{"const":false}', "false" }, { '{"exclusiveMinimum":1,"maximum":2}', "2" },
      { '{"items":{"type":"string"},"maxItems":2}', '["a","b"]' }, { '{"uniqueItems":true}', '[1,"1",[1]]' },
      { '{"required":["a"],"properties":{"a":{"type":"null"}}}', '{"a":null,"b":1}' },
      { '{"anyOf":[{"type":"string"},{"minimum":3}]}', "4" }, { '{"properties":{"a":{}},"additionalProperties":false}', '{"a":1}' },
    } do
      assert.same({}, check(case[1], case[2]), case[1] .. " " .. case[2])
    end
  end)

  it("names what does not fit", function()
    for _, case in ipairs {
      { '{"type":"integer"}', "3.5", " type" }, { '{"type":"string"}', "null", " type" }, { '{"type":"array"}', "{}", " type" },
      { '{"type":"object"}', "[]", " type" }, { '{"type":"boolean"}', '"true"', " type" }, { '{"type":"number"}', '"1"', " type" },
      { '{"maxLength":1}', '"üü"', " length" }, { '{"enum":[1,"a"]}', '"1"', " enum" }, { '{"const":[1]}', "[1,2]", " enum" },
      { '{"exclusiveMinimum":1}', "1", " min" }, { '{"maximum":1}', "9007199254740993", " max" },
      { '{"items":{"items":{"type":"string"}}}', '[[],["a",1]]', "/1/1 type" }, { '{"minItems":1}', "[]", " length" },
      { '{"uniqueItems":true}', '[{"a":1},{"a":1}]', "/1 duplicate" }, { '{"required":["a~b"]}', "{}", "/a~0b required" },
      { '{"additionalProperties":false}', '{"x":1}', "/x unknown_field" },
      { '{"additionalProperties":{"type":"string"}}', '{"x":1}', "/x type" }, { '{"maxProperties":0}', '{"x":1}', " length" },
      { '{"anyOf":[{"type":"string"},{"minimum":3}]}', "2", " invalid" },
    } do
      assert.same({ case[3] }, check(case[1], case[2]), case[1] .. " " .. case[2])
    end
  end)

  it("names at most twenty faults", function()
    assert.equal(20, #check('{"items":{"type":"string"}}', "[" .. ("1,"):rep(99) .. "1]"))
  end)
end)
