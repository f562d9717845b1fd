-- Load the data set, run the rules over it, hand over the report. Needs no model.
local json = require "json"

local function merged(...)
  local all = {}
  for _, variables in ipairs { ... } do
    for name, value in pairs(variables) do all[name] = value end
  end
  return all
end

workflow {
  name = "erp-exception-management",
  run = function(run, input)
    local settings = run.settings
    if run.system_prompt_id then
      template.render(run.system_prompt_id, merged(run.instance_variables, run.variables), run.system_prompt_ref)
    end

    local dataset = erp.load(input.dataset_id)
    if not dataset.dataset_id then
      log("warn", "there is no data to analyse: the project has no sealed dataset", {})
    end
    local swept = erp.sweep {
      dataset = dataset.dataset_id,
      mapping = settings.mapping,
      rules = settings.rules,
      categories = settings.categories,
      params = settings.rule_params,
      as_of = settings.as_of,
    }
    return {
      dataset_id = dataset.dataset_id or json.null,
      message = dataset.dataset_id and json.null or "There is no data: upload a dataset, seal it and run again.",
      as_of = swept.as_of or json.null,
      summary = swept.summary,
      not_run = swept.not_run,
    }
  end,
}
