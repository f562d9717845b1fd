-- Over the real route table: what is declared is complete, and a new route cannot be forgotten.
local json = require "json"
local openapi = require "http.openapi"
local routes = require("routes").all()
local schema = require "http.schema"

-- Every operation of the slice, with its least role. A new route is entered here by hand: so its role
-- is looked at once.
local roles = {
  getHealth = "any", getReady = "any", getMetrics = "admin", getOpenapi = "any",
  createProject = "admin", listProjects = "viewer", getProject = "viewer", updateProject = "admin", exportProject = "admin", getMasterHealth = "viewer", getQuotas = "viewer",
  createAgent = "author", listAgents = "viewer", getAgent = "viewer", updateAgent = "author",
  listAgentVersions = "viewer", getAgentVersion = "viewer",
  createSystemPrompt = "author", listSystemPrompts = "viewer", getSystemPrompt = "viewer", updateSystemPrompt = "author",
  listSystemPromptVersions = "viewer", getSystemPromptVersion = "viewer",
  setupErpDefaults = "admin",
  createAgentInstance = "author", listAgentInstances = "viewer", getAgentInstance = "viewer", updateAgentInstance = "author",
  listAgentInstanceVersions = "viewer", getAgentInstanceVersion = "viewer",
  createDataset = "operator", listDatasets = "viewer", getDataset = "viewer", putTable = "operator", sealDataset = "operator",
  createTool = "author", listTools = "viewer", getTool = "viewer", updateTool = "author",
  listToolVersions = "viewer", getToolVersion = "viewer",
  getTable = "viewer", cancelUpload = "operator", archiveDataset = "operator",
  pushScript = "author",
  createApiKey = "admin", listApiKeys = "admin", getApiKey = "admin", revokeApiKey = "admin",
  createProjectApiKey = "admin", listProjectApiKeys = "admin", getProjectApiKey = "admin", revokeProjectApiKey = "admin",
  listSecrets = "admin", getSecret = "admin", putSecret = "admin", deleteSecret = "admin", rotateSecretKey = "admin",
  listProjectSecrets = "admin", getProjectSecret = "admin", putProjectSecret = "admin", deleteProjectSecret = "admin",
  createBackup = "admin", listBackups = "admin", getBackup = "admin", restoreProject = "admin", cloneProject = "admin",
  eraseProject = "admin", importProject = "admin", getJob = "admin",
  listAudit = "viewer", listMasterAudit = "admin", getMe = "viewer",
  createExecution = "operator", listExecutions = "viewer", getExecution = "viewer", getResult = "viewer", getReport = "viewer",
  listExecutionFindings = "viewer", streamEvents = "viewer", cancelExecution = "operator", followExecution = "viewer",
}

describe("the route table", function()
  it("has each operation with its role", function()
    local found = {}
    for _, r in ipairs(routes) do found[r.operation_id] = r.role end
    assert.same(roles, found)
  end)

  it("declares a body, an example and the answers of every change", function()
    for _, r in ipairs(routes) do
      assert.is_string(r.summary, r.operation_id)
      assert.is_truthy(next(r.answers), r.operation_id)
      -- What is no text, as a tar, has no example.
      if r.method == "POST" then assert.is_truthy((r.body and r.example) or r.upload, r.operation_id) end
      if r.method == "PUT" then assert.is_truthy((r.body and r.example) or (r.upload and r.upload_examples), r.operation_id) end
    end
  end)

  it("has examples that are valid", function()
    for _, r in ipairs(routes) do
      if r.body then
        local example = json.decode(json.encode(r.example))
        local _, checked = schema.check(r.body, example, r.mode or "create", {principal = {name = "dev"}})
        assert.same({}, checked.errors, r.operation_id)
      end
    end
  end)

  it("is documented as a whole, with nothing left hanging", function()
    local doc = json.decode(json.encode(openapi.document(routes, "1")))
    local operations = 0
    for _, methods in pairs(doc.paths) do
      for _ in pairs(methods) do operations = operations + 1 end
    end
    assert.equal(#routes, operations)
    local function refs(v)
      if type(v) ~= "table" then return end
      for k, x in pairs(v) do
        if k == "$ref" and type(x) == "string" then
          local kind, name = x:match("^#/components/(%a+)/(%w+)$")
          assert.is_truthy(kind and doc.components[kind][name], x)
        else refs(x) end
      end
    end
    refs(doc.paths)
    refs(doc.components)
  end)
end)
