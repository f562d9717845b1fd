-- Projects that have work for later, by time.

return {
  scope = "master",
  run = function(db)
    local ok, err = db:ensure_index("kt_m_ready", { name = "due", keys = { { "next_run_at", 1 } } })
    return ok and true or nil, err
  end,
}
