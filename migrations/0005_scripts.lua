-- agents/ becomes the first version of the scripts in master data. Later releases of the files come
-- in at every start (scripts.seed), unless someone pushed another version meanwhile.

return {
  scope = "master",
  run = function(_, context)
    return require("scripts.seed").run(context.home, false)
  end,
}
