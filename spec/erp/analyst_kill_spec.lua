-- kill -9 of the analyst in each rule, and one that eats the memory: that rule is reported as an error, all others as
-- if nothing had been.
local analyst = require "kt.analyst"
local demo = require "erp.demo.generator"
local file = require "kt.file"
local folder = require "erp.folder"
local seed = require "scripts.seed"
local sweep = require "erp.sweep"

local AGENT = "agents/erp-exception-management/"

local function files_in(dir)
  local names = {}
  for _, entry in ipairs(assert(file.list(dir))) do
    if entry.kind == "file" then names[#names + 1] = entry.name end
  end
  return names
end

-- The options with a rule that begins with something else.
local function with(options, id, code)
  local changed, bundle = {}, {}
  for k, v in pairs(options) do changed[k] = v end
  for path, source in pairs(options.bundle) do bundle[path] = source end
  local path = AGENT .. "rules/" .. id .. ".lua"
  local source, n = bundle[path]:gsub("run = function%([%w_, ]*%)", "%0 " .. code)
  assert(n == 1, path)
  bundle[path], changed.bundle = source, bundle
  return changed
end

describe("an analyst killed in a rule", function()
  local dir, options, whole
  local start = analyst.start

  setup(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(file.mkdir(dir))
    os.execute(("%s demo-data --out %s --n 60 >/dev/null"):format(require("kt.config").program(), dir))
    local bundle = {}
    for path, source in pairs(assert(seed.files("."))) do
      if path:sub(1, #AGENT) == AGENT and not path:find("workflow", 1, true) and path:find "%.lua$" then bundle[path] = source end
    end
    options = { bundle = bundle, mapping = "identity", tables = assert(folder.tables(dir, files_in)), as_of = demo.AS_OF }
    whole = assert(sweep.run(options))
  end)

  teardown(function() assert(file.remove(dir)) end)
  after_each(function() analyst.start = start end)

  -- As before, but for one that has come to its memory's end.
  local function check(result, victim)
    local by_id = {}
    for _, rule in ipairs(whole.rules) do by_id[rule.rule_id] = rule end
    assert.equal(#whole.rules, #result.rules)
    for _, rule in ipairs(result.rules) do
      local before = by_id[rule.rule_id]
      if rule.rule_id == victim.rule_id then
        assert.same({ "error", "memory_limit", 0 }, { rule.status, rule.error.code, rule.findings })
      else
        assert.same({ before.status, before.findings, before.input_hash }, { rule.status, rule.findings, rule.input_hash }, rule.rule_id)
      end
    end
  end

  it("or out of memory loses that rule alone", function()
    if os.getenv "ASAN_OPTIONS" then return pending "no address space limit under ASan" end
    analyst.start = function(opts)
      opts.memory = 512 * 2 ^ 20
      return start(opts)
    end
    for _, eats in ipairs { "local a = {} for i = 1, 1e9 do a[i] = ('x'):rep(1000) .. i end",
      "local a = {} for i = 1, 1e9 do a[i] = ('x'):rep(2 ^ 24 + i) end" } do
      check(assert(sweep.run(with(options, whole.rules[2].rule_id, eats))), whole.rules[2])
    end
  end)

  it("loses that rule alone", function()
    for _, victim in ipairs(whole.rules) do
      analyst.start = function(opts)
        local child, err = start(opts)
        if not child then return nil, err end
        local killed = false
        return {
          next = function()
            local message, why = child:next()
            if message and message.type == "begin" and message.rule_id == victim.rule_id and not killed then
              killed = true
              os.execute("kill -9 " .. child.child:pid())
            end
            return message, why
          end,
          close = function() child:close() end,
        }
      end
      check(assert(sweep.run(with(options, victim.rule_id, "while true do end"))), victim)
    end
  end)
end)
