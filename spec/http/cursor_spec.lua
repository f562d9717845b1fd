local cursor = require "http.cursor"
local value = require "value"

describe("a cursor", function()
  cursor.set_key("key of this installation")
  local binding = cursor.binding("listThings", "acme", {q = {status = "x"}, p = {}})

  it("brings back where the page ended, with its types", function()
    local keys = cursor.open(cursor.seal({value.date(1767323045678), "inst_1", 7}, binding), binding)
    assert.equal(1767323045678, keys[1].ms)
    assert.equal("inst_1", keys[2])
    assert.equal(7, keys[3])
  end)

  it("is refused when anything about it was changed", function()
    local good = cursor.seal({"a"}, binding)
    for i = 1, #good do
      local other = good:sub(i, i) == "A" and "B" or "A"
      local keys, err = cursor.open(good:sub(1, i - 1) .. other .. good:sub(i + 1), binding)
      -- The last character may hold bits that stand for nothing.
      if keys then assert.equal(#good, i) else assert.equal("invalid_cursor", err.code) end
    end
    for _, s in ipairs{"", "x", good:sub(2), good .. "AAAA", ("A"):rep(5000), "a b", "é"} do
      local keys, err = cursor.open(s, binding)
      assert.is_nil(keys)
      assert.equal("cursor", err.errors[1].parameter)
    end
  end)

  it("belongs to its list, its project and its filters", function()
    local good = cursor.seal({"a"}, binding)
    for _, other in ipairs{
      cursor.binding("listOthers", "acme", {q = {status = "x"}, p = {}}),
      cursor.binding("listThings", "other", {q = {status = "x"}, p = {}}),
      cursor.binding("listThings", nil, {q = {status = "x"}, p = {}}),
      cursor.binding("listThings", "acme", {q = {}, p = {}}),
    } do
      assert.is_nil((cursor.open(good, other)))
    end
  end)

  it("of another installation means nothing", function()
    local good = cursor.seal({"a"}, binding)
    cursor.set_key("another key")
    assert.is_nil((cursor.open(good, binding)))
    cursor.set_key("key of this installation")
    assert.is_truthy((cursor.open(good, binding)))
  end)
end)
