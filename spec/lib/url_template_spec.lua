local url = require "lib.url_template"

local function fill(template, args)
  assert.is_nil(url.fault(template))
  local filled, bad = url.fill(template, args)
  return filled or bad.pointer .. " " .. bad.code
end

describe("a URL with places", function()
  it("takes its path and query apart from scheme and host", function()
    for _, good in ipairs { "https://x.example", "http://x.example:8080/", "http://[::1]:80/a", "https://x/a/{id}.json?q={q}&b=%20",
      "https://x?a=1" } do
      assert.is_nil(url.fault(good), good)
    end
    for _, bad in ipairs { "", "x", "//x/", "ftp://x/", "HTTPS://x/", "https://", "https://{h}/", "https://x{p}", "https://a:b@x/",
      "https://x:/", "https://x:1234567/", "https://x:8a/", "https://[::1]x/", "https://x/#", "https://x/{", "https://x/}", "https://x/{1}",
      "https://x/{a b}", "https://x/?{a}", "https://x/?{a}=1", "https://x/ü", "https://x/\n", "https://x/\\", "https://a:b:c/" } do
      assert.truthy(url.fault(bad), bad)
    end
  end)

  it("is filled, percent-encoded", function()
    assert.equal("https://x/a%2Fb/~c.-_", fill("https://x/{a}/{b}", { a = "a/b", b = "~c.-_" }))
    assert.equal("https://x/%00%0D%0A%3F%23%25", fill("https://x/{a}", { a = "\0\r\n?#%" }))
    assert.equal("https://x/12/1.5/true/-0.25", fill("https://x/{a}/{b}/{c}/{d}", { a = 12, b = 1.5, c = true, d = -0.25 }))
    assert.equal("https://x/?q=%26a%3D&z=1", fill("https://x/?q={q}&z=1", { q = "&a=" }))
    assert.equal("https://x/?z=1", fill("https://x/?q={q}&z=1&p={p}-{q}", { p = 1 }))
    assert.equal("https://x/", fill("https://x/?q={q}", {}))
    assert.equal("https://x/?q=", fill("https://x/?q={q}", { q = "" }))
    assert.equal("https://x/%7Bb%7D", fill("https://x/{a}", { a = "{b}", b = "no" }))
  end)

  it("refuses what would be another path", function()
    assert.equal("/a required", fill("https://x/{a}/b", {}))
    assert.equal("/a length", fill("https://x/{a}/b", { a = "" }))
    assert.equal("/a pattern", fill("https://x/{a}/b", { a = ".." }))
    assert.equal("/a pattern", fill("https://x/{a}{b}/c", { a = ".", b = "." }))
    assert.equal("/a type", fill("https://x/{a}", { a = {} }))
    assert.equal("/q type", fill("https://x/?q={q}", { q = { 1 } }))
    assert.equal("https://x/..a", fill("https://x/{a}", { a = "..a" }))
  end)

  it("names its places", function()
    assert.same({ a = true, q = true }, url.names("https://x/{a}/{a}?q={q}"))
  end)
end)
