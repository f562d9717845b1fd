-- currency and log_level of a project's settings had no effect; what is stored of them is the default of
-- then. null keeps all as it was now that they have one.

return {
  scope = "master",
  run = function(db)
    return db:update_many("kt_m_projects", {}, {set = {["settings.currency"] = require("json").null, ["settings.log_level"] = require("json").null}})
  end,
}
