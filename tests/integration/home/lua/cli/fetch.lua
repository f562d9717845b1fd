--- `kontor fetch JSON…`: makes the requests at once, prints one line of JSON a request in their
--- order and what is left of the process last. {"cancel": seconds} gives a request up,
--- {"deadline": seconds} is its task's. After the word `then` come requests that wait for those before.
local fetch = require("kt.fetch")
local json = require("json")
local task = require("kt.task")

local function one(text)
  local request = assert(json.decode(text))
  local cancel, deadline = request.cancel, request.deadline
  request.cancel, request.deadline = nil, nil
  local work = task.spawn(function()
    if deadline then
      task.deadline(deadline)
    end
    local ok, answer, err = pcall(fetch, request)
    if not ok then
      return { raised = type(answer) == "table" and answer.code or tostring(answer) }
    end
    return answer or { code = err.code, message = err.message }
  end)
  if cancel then
    task.sleep(cancel)
    work:cancel()
  end
  local answer, err = work:join()
  return answer or { code = err.code, message = err.message }
end

local function print_all(tasks)
  for _, t in ipairs(tasks) do
    io.stdout:write(json.encode(t:join()), "\n")
    io.stdout:flush()
  end
end

return function(args)
  local tasks = {}
  for _, text in ipairs(args) do
    if text == "then" then
      print_all(tasks)
      tasks = {}
    else
      tasks[#tasks + 1] = task.spawn(one, text)
    end
  end
  print_all(tasks)
  task.sleep(0.05)
  collectgarbage()
  local counts = task.counts()
  io.stdout:write(json.encode({ tasks = counts.tasks - 1, ops = counts.ops, handles = counts.handles }), "\n")
  return 0
end
