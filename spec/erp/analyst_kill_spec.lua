-- kill -9 of the analyst in each rule: that rule is reported as an error, all others as if nothing had been.
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

-- The options with one rule that does not end by itself, so that the signal finds it there.
local function hanging_in(options, id)
  local changed, bundle = {}, {}
  for k, v in pairs(options) do changed[k] = v end
  for path, source in pairs(options.bundle) do bundle[path] = source end
  local path = AGENT .. "rules/" .. id .. ".lua"
  local source, n = bundle[path]:gsub("run = function%([%w_, ]*%)", "%0 while true do end")
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

  it("loses that rule alone", function()
    local by_id = {}
    for _, rule in ipairs(whole.rules) do by_id[rule.rule_id] = rule end
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
      local result = assert(sweep.run(hanging_in(options, victim.rule_id)))
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
  end)
end)
