-- What setup/erp-defaults brings into master data: the template of the agent and its system prompt.
return {
  agent = {
    agent_id = "erp-exception-management",
    name = "ERP exception management",
    description = "Finds exceptions in ERP data with deterministic rules: procurement, tax, inventory, deliveries, production, invoices. "
      .. "Works without a model.",
    category = "erp",
    workflow = "agents/erp-exception-management/workflow.lua",
    system_prompt_id = "erp-exception-management",
    variables = {
      { name = "company_name", type = "string", default = "the company", description = "Whose data is analysed" },
      { name = "language", type = "string", default = "English", description = "Language of what a model writes" },
      { name = "focus", type = "array", default = {}, description = "Categories to dwell on" },
    },
    settings = { timeout = 900 },
  },
  prompts = {
    {
      prompt_id = "erp-exception-management",
      name = "ERP exception management",
      description = "System prompt of the exception analyst",
      file = "prompt.j2",
      variables = {
        { name = "company_name", type = "string", required = true },
        { name = "language", type = "string", default = "English" },
        { name = "focus", type = "array", default = {} },
      },
    },
  },
}
