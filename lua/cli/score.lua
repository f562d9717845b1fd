--- kontor score: the findings of a report of demo data against its labels.
local file = require "kt.file"
local json = require "json"

local options = require "lib.options"
local score = require "erp.score"

local spec = {
  usage = "kontor score --findings FILE --labels FILE",
  options = {
    { "findings", "FILE", "report of kontor analyze or of the service", required = true },
    { "labels", "FILE", "labels.csv of kontor demo-data", required = true },
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
  text, err = file.read(values.findings)
  if not text then return fail(1, values.findings .. ": " .. tostring(err.message)) end
  local report
  report, err = json.decode(text)
  if type(report) ~= "table" or type(report.categories) ~= "table" then
    return fail(1, values.findings .. ": " .. (err and err.message or "is no report"))
  end
  local scores = score.score(report, score.labels(labels))
  local ids = {}
  for id in pairs(scores) do ids[#ids + 1] = id end
  table.sort(ids)
  local exact, all = true, { tp = 0, fp = 0, fn = 0, reason = 0, severity = 0, impact = 0 }
  io.stdout:write(string.format("%-9s %5s %5s %5s %10s %7s %7s %9s %7s\n", "rule", "tp", "fp", "fn", "precision", "recall",
    "reason", "severity", "impact"))
  local function line(name, s)
    io.stdout:write(string.format("%-9s %5d %5d %5d %10s %7s %7s %9s %7s\n", name, s.tp, s.fp, s.fn, share(s.tp, s.tp + s.fp),
      share(s.tp, s.tp + s.fn), share(s.reason, s.tp), share(s.severity, s.tp), share(s.impact, s.tp)))
  end
  for _, id in ipairs(ids) do
    local s = scores[id]
    line(id, s)
    for _, text_line in ipairs(s.wrong) do io.stdout:write("  ", text_line, "\n") end
    for name, n in pairs(all) do all[name] = n + s[name] end
    exact = exact and score.perfect(s)
  end
  line("all", all)
  return exact and 0 or 1
end
