local file = require "kt.file"
local json = require "json"
local secret = require "domain.secret"
local secret_key = require "domain.secret_key"
local support = require "engine.support"
local upstream = require "door.upstream"
local value = require "value"

local TOKEN = "Bearer sk-9f8e7d6c5b4a"

local function put(project, name, text)
  assert(secret.put { req = { id = "r", headers = {} }, params = { name = name }, project = project, principal = support.principal,
    body = { value = text } })
end

describe("a tool with a secret in a header", function()
  local dir
  local kept = { dir = secret.dir, own_key = secret.own_key }
  upstream.hooks(function() return "127.0.0.1:" .. upstream.port end)

  setup(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(file.mkdir(dir))
    secret.dir, secret.own_key = function() return dir end, function() return true end
    assert(secret_key.check()) -- its threads stay
  end)
  teardown(function()
    file.remove(dir)
    secret.dir, secret.own_key = kept.dir, kept.own_key
  end)

  local CALL = [[
    local ok, answer = pcall(tool.call, T1)
    return { ok = ok, content = ok and answer.content, value = ok and answer.value, code = not ok and answer.code,
      message = not ok and answer.message }]]

  local function project_of(headers)
    local tool = upstream.tool("GET", "/show", { headers = headers })
    local project, instance = support.project(upstream.workflow({ tool }, CALL), { tools = { tool } })
    return project, function()
      local doc = support.run(project, instance)
      assert.equal("completed", doc.status)
      return doc.result.output, doc
    end
  end

  before_each(function()
    upstream.behave.show = function(req)
      req:respond(200, { ["content-type"] = "application/json" },
        json.encode { headers = req.headers, token = req.headers.authorization and req.headers.authorization:match("%S+$") })
    end
  end)

  it("sends it, of the project or of the whole, and shows it to nobody", function()
    local project, run = project_of { Authorization = "secret:spec-token", ["X-Plain"] = "plain" }
    local out = run()
    assert.same({ false, "tool_error", "there is no secret spec-token" }, { out.ok, out.code, out.message })
    assert.equal(0, #upstream.seen)

    put(nil, "spec-token", "Bearer of-the-whole-0123")
    run()
    assert.equal("Bearer of-the-whole-0123", upstream.seen[1].headers.authorization)

    put(project, "spec-token", TOKEN)
    local doc
    out, doc = run()
    assert.equal(TOKEN, upstream.seen[2].headers.authorization)
    assert.equal("plain", upstream.seen[2].headers["x-plain"])
    assert.equal("[secret:spec-token]", out.value.headers.authorization)
    assert.equal("[secret:spec-token]", out.value.token)
    local _, events = support.events(project, doc.execution_id)
    for _, text in ipairs { json.encode(doc), json.encode(events) } do
      assert.is_nil(text:find("9f8e7d6c5b4a", 1, true))
    end

    -- Another value is taken with the next call; the tool is as it was.
    put(project, "spec-token", "Bearer another-value")
    run()
    assert.equal("Bearer another-value", upstream.seen[3].headers.authorization)
  end)

  it("says no more than its name when it does not open", function()
    local project, run = project_of { ["X-Token"] = "secret:broken" }
    put(project, "broken", TOKEN)
    assert(project.db:update_one("kt_p_secrets", { _id = "broken" }, { set = { box = value.binary(("x"):rep(40)) } }))
    local out = run()
    assert.same({ "tool_error", "the secret broken does not open; the service's log says why" }, { out.code, out.message })
    put(project, "broken", "two\nlines of a key")
    out = run()
    assert.equal("tool_error", out.code)
    assert.truthy(out.message:find("control character", 1, true))
    assert.is_nil(out.message:find("lines", 1, true))
    assert.equal(0, #upstream.seen)
  end)
end)
