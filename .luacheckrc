std = "luajit"
max_line_length = 140
unused_args = false
cache = false
codes = true
files["agents"] = { globals = { "workflow", "rule", "mapping", "tool", "route" },
  read_globals = { "model", "tool", "erp", "data", "template", "time", "random", "uuid", "human", "parallel",
    "log", "progress", "result" } }
