workflow{name="program", run=function(run, input)
local s, n = ("key=val; k2=v2; long_key=some value"):gsub("(%w+)=(%w+)", function(k, v) return v .. "=" .. k end) local o = {} for w in s:gmatch("%a+") do o[#o + 1] = w end return n .. table.concat(o, "|") .. ("x"):rep(20):gsub("x", "yz")
end}
