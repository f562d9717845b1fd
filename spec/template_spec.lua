-- Templates: the cases of tests/conformance/templates.json, whose expectations are Jinja2's own
-- (tests/conformance/run_jinja.py), and what is ours alone.
local json = require "json"
local runtime = require "template.runtime"
local template = require "template"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local data = assert(json.decode(read "tests/conformance/templates.json"))

--- Render a case; the text, or nil and the error.
local function render(case, variables, strict)
  local chunks, err = template.compile_all("main", function(id)
    if id == "main" then
      return case.template
    end
    return (case.includes or {})[id]
  end)
  if not chunks then
    return nil, err
  end
  local loaded = {}
  for id, chunk in pairs(chunks) do
    loaded[id] = assert(loadstring(chunk.source, "=" .. id))
  end
  local ok, result = pcall(runtime.render, loaded, "main", variables or data.variables, strict ~= false)
  if ok then
    return result
  end
  return nil, result
end

describe("template", function()
  for _, case in ipairs(data.cases) do
    it("prints: " .. case.name, function()
      local text, err = render(case)
      assert.are.equal(case.expect, text or err.message)
    end)
  end

  for _, case in ipairs(data.errors) do
    it("refuses, naming line and column: " .. case.name, function()
      local text, err = render(case)
      assert.is_nil(text)
      assert.are.equal("template_error", err.code)
      assert.are.same({ case.line, case.column }, { err.details.line, err.details.column })
      local where = ("%s:%d:%d: "):format(err.details.template, case.line, case.column)
      assert.are.equal(where, err.message:sub(1, #where))
    end)
  end

  it("names the included prompt of an error", function()
    local _, err = render { template = "{% include 'sub' %}", includes = { sub = "{{ zz }}" } }
    assert.are.equal("sub", err.details.template)
  end)

  it("lets undefined variables print as nothing when asked", function()
    local case = { template = "[{{ zz }}]{% for x in zz %}x{% endfor %}{% if zz %}y{% endif %}" }
    assert.are.equal("[]", render(case, {}, false))
  end)

  it("stops an include of itself", function()
    local _, err = render { template = "{% include 'a' %}", includes = { a = "{% include 'a' %}" } }
    assert.is_truthy(err.message:find("nested more than 20 levels", 1, true))
  end)

  it("refuses deep nesting, long chains and large texts instead of failing inside Lua", function()
    for _, source in ipairs {
      ("{% if yes %}"):rep(300) .. ("{% endif %}"):rep(300),
      "{{ " .. ("("):rep(300) .. "1" .. (")"):rep(300) .. " }}",
      "{{ " .. ("-"):rep(300) .. "1 }}",
      "{{ " .. ("not "):rep(300) .. "1 }}",
      "{{ 1" .. (" + 1"):rep(300) .. " }}",
      "{{ 1" .. ("|abs"):rep(300) .. " }}",
      "{{ m" .. (".a"):rep(300) .. " }}",
      "{{ " .. ("["):rep(300) .. ("]"):rep(300) .. " }}",
      ("x"):rep(256 * 1024 + 1),
    } do
      local compiled, err = template.compile(source, "deep")
      assert.is_nil(compiled)
      assert.are.equal("template_error", err.code)
    end
  end)

  it("compiles a text of the largest size", function()
    local unit = "{{ name }} some words, "
    local text = render { template = unit:rep(math.floor(256 * 1024 / #unit)) }
    assert.are.equal("Ada some words, ", text:sub(1, 16))
  end)

  it("keeps text that looks like Lua as text", function()
    local source = 'a"]]\\ \n%d {{ name }} --[[ \0 \r'
    assert.are.equal('a"]]\\ \n%d Ada --[[ \0 ', (render { template = source }):gsub("\n$", ""))
  end)

  it("names the argument of a filter or method that has the wrong type", function()
    for source, what in pairs {
      ["{{ 'b'.split('$', '+') }}"] = "argument 2 of split() must be an integer, not str",
      ["{{ name.strip(1) }}"] = "argument 1 of strip() must be a string, not int",
      ["{{ name.replace('a', 'b', 'c') }}"] = "argument 3 of replace() must be an integer, not str",
      ["{{ name|truncate('x') }}"] = "the argument 'length' of filter 'truncate' must be an integer, not str",
      ["{{ name|int(base=1.5) }}"] = "the argument 'base' of filter 'int' must be an integer, not float",
      ["{{ name|int(base=99) }}"] = "must be 2 to 36",
      ["{{ items|sum(start='a') }}"] = "the argument 'start' of filter 'sum' must be a number, not str",
    } do
      local text, err = render { template = source }
      assert.is_nil(text, source)
      assert.are.equal("template_error", err.code)
      assert.is_truthy(err.message:find(what, 1, true), err.message)
    end
  end)

  it("strips characters, not bytes of them", function()
    assert.are.equal("é", render { template = "{{ 'éè'.strip('è') }}" })
    assert.are.equal("x", render { template = "{{ ']\0^x-'.strip('\0]^-') }}" })
  end)

  it("prints no address", function()
    assert.are.equal("<function>", render { template = "{% for i in [1] %}{{ loop.cycle }}{% endfor %}" })
  end)

  it("cannot reach Lua from an expression", function()
    for _, source in ipairs { "{{ _G }}", "{{ string }}", "{{ name.rep(5) }}", "{{ name.gsub }}", "{{ loop }}",
      "{{ items.insert(1) }}", "{{ R }}", "{{ s }}" } do
      local text, err = render { template = source }
      assert.is_nil(text, source)
      assert.are.equal("template_error", err.code)
    end
  end)
end)
