--- kontor score: a report of demo data against its labels.
local file = require "kt.file"
local json = require "json"

local options = require "lib.options"
local score = require "erp.score"

local spec = {
  usage = "kontor score --labels FILE --report FILE",
  options = {
    { "labels", "FILE", "labels.csv of kontor demo-data", required = true },
    { "report", "FILE", "report of kontor analyze or of the service", required = true },
  },
}

local function fail(code, message)
  io.stderr:write("kontor score: ", message, "\n")
  return code
end

-- Share with three decimals; 1 when there was nothing to find.
local function share(part, whole) return whole == 0 and "1.000" or string.format("%.3f", part / whole) end

---@param args string[]
---@return integer exit code: 0 when all is exact, 1 when not
return function(args)
  local values, code = options.read("score", args, spec)
  if not values then return code end
  local labels, err = file.read(values.labels)
  if not labels then return fail(1, values.labels .. ": " .. tostring(err.message)) end
  local text
  text, err = file.read(values.report)
  if not text then return fail(1, values.report .. ": " .. tostring(err.message)) end
  local report
  report, err = json.decode(text)
  if type(report) ~= "table" or type(report.categories) ~= "table" then
    return fail(1, values.report .. ": " .. (err and err.message or "is no report"))
  end
  local scores = score.score(report, score.labels(labels))
  local ids = {}
  for id in pairs(scores) do ids[#ids + 1] = id end
  table.sort(ids)
  local exact = true
  io.stdout:write(string.format("%-9s %5s %5s %5s %10s %7s %7s %9s %7s\n", "rule", "tp", "fp", "fn", "precision", "recall",
    "reason", "severity", "impact"))
  for _, id in ipairs(ids) do
    local s = scores[id]
    io.stdout:write(string.format("%-9s %5d %5d %5d %10s %7s %7s %9s %7s\n", id, s.tp, s.fp, s.fn, share(s.tp, s.tp + s.fp),
      share(s.tp, s.tp + s.fn), share(s.reason, s.tp), share(s.severity, s.tp), share(s.impact, s.tp)))
    for _, line in ipairs(s.wrong) do io.stdout:write("  ", line, "\n") end
    exact = exact and score.perfect(s)
  end
  return exact and 0 or 1
end
