std = "luajit"
max_line_length = 210
unused_args = false
cache = false
codes = true
ignore = { "581", "241" } -- not (x < y) is not x >= y with NaN; a local may only keep cdata alive
files["agents"] = { globals = { "workflow", "rule", "mapping", "tool", "route" },
  read_globals = { "model", "tool", "erp", "data", "template", "time", "random", "uuid", "human", "parallel",
    "log", "progress", "result" } }
