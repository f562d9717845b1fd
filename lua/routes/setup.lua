-- What a fresh installation needs for ERP analyses.

local setup = require "domain.setup"

return {
  {method = "POST", path = "/api/v1/master/setup/erp-defaults", operation_id = "setupErpDefaults", role = "admin",
    tag = "setup", summary = "Bring the shipped ERP agent into master data", body = setup.types.setup, example = {},
    answers = {[200] = {type = setup.types.done}}, handler = setup.erp_defaults},
}
