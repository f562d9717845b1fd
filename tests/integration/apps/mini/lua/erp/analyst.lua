--- A rule that never ends, as far as the worker can tell.
return function(job, send)
  send { type = "mapped" }
  while true do end
end
