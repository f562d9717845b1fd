--- kontor demo-data: writes a demo company with planted exceptions, its labels and a manifest.
local crypto = require "kt.crypto"
local file = require "kt.file"
local json = require "json"

local calendar = require "erp.calendar"
local generator = require "erp.demo.generator"
local options = require "lib.options"

local spec = {
  usage = "kontor demo-data --out DIR [--seed S] [--n N] …",
  options = {
    { "out", "DIR", "folder to write, made if it is not there", required = true },
    { "seed", "S", "unsigned 64-bit number", default = "1" },
    { "n", "N", "purchase order lines, 60 to 100000000", default = "3000" },
    { "as-of", "DATE", "key date", default = generator.AS_OF },
    { "rate", "R", "planted exceptions for each tested unit; 0 plants nothing", default = "0.002" },
    { "decoys", "K", "decoys for each planted exception", default = "3" },
    { "rules", "A,B", "plant only for these", default = "all" },
  },
}

-- A file that is written in pieces; hashed on the way.
local function sink(dir)
  return function(name)
    local path = dir .. "/" .. name
    local handle = assert(io.open(path, "wb"))
    local hash, bytes = crypto.hash_new(), 0
    return {
      write = function(_, text)
        assert(handle:write(text))
        hash:update(text)
        bytes = bytes + #text
      end,
      close = function()
        assert(handle:close())
        return hash:hex(), bytes
      end,
    }
  end
end

-- Share as whole numbers of a million: "0.002" -> 2000.
local function per_million(text)
  local whole, fraction = text:match("^(%d+)%.?(%d*)$")
  if not whole or #fraction > 6 then return nil end
  local n = tonumber(whole .. fraction .. ("0"):rep(6 - #fraction))
  return n <= 100000 and n or nil
end

local function usage(problem)
  io.stderr:write("kontor demo-data: ", problem, "\n", options.help(spec))
  return 2
end

local function read(values)
  local n = tonumber(values.n or "3000")
  local opts = { seed = values.seed or "1", n = n, as_of = calendar.parse(values["as-of"] or generator.AS_OF),
    per_million = per_million(values.rate or "0.002"), decoys_per_case = tonumber(values.decoys or "3") }
  if not n or n % 1 ~= 0 or n < 60 or n > 1e8 then return nil, "--n is a whole number from 60 to 100000000" end
  if not generator.valid_seed(opts.seed) then return nil, "--seed is a whole number from 0 to 18446744073709551615" end
  if not opts.as_of then return nil, "--as-of is no date (YYYY-MM-DD)" end
  if not opts.per_million then return nil, "--rate is a number from 0 to 0.1 with at most 6 decimals" end
  local k = opts.decoys_per_case
  if not k or k % 1 ~= 0 or k < 0 or k > 100 then return nil, "--decoys is a whole number from 0 to 100" end
  if values.rules then
    opts.rules = {}
    for id in values.rules:gmatch("[^,]+") do
      if not generator.has_rule(id) then return nil, "nothing can be planted for rule '" .. id .. "'" end
      opts.rules[id] = true
    end
  end
  return opts
end

---@param args string[]
---@return integer exit code
return function(args)
  local values, code = options.read("demo-data", args, spec)
  if not values then return code end
  local opts, problem = read(values)
  if not opts then return usage(problem) end
  local made, err = file.mkdir(values.out)
  if not made then
    io.stderr:write("kontor demo-data: ", values.out, ": ", err.message, "\n")
    return 1
  end
  local ok, result = pcall(generator.write, sink(values.out), opts)
  if not ok then
    io.stderr:write("kontor demo-data: ", tostring(result), "\n")
    return 1
  end
  local manifest = json.encode(generator.manifest(opts, result), { indent = 2 }) .. "\n"
  made, err = file.write(values.out .. "/manifest.json", manifest)
  if not made then
    io.stderr:write("kontor demo-data: manifest.json: ", err.message, "\n")
    return 1
  end
  io.stdout:write(string.format("%s: %d files, %d rows, %d planted exceptions, %d decoys, key date %s\n", values.out,
    #result.files + 1, result.rows, result.planted, result.decoys, calendar.text(opts.as_of)))
  return 0
end
