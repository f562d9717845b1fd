-- Chunks of the journal: damaged bytes are refused as store_corrupt; records that are read, packed
-- again and read again are the same.
local journal = require "engine.journal"
local value = require "value"

return function(bytes)
  local records, err = journal.unpack(bytes)
  if not records then
    assert(err.code == "store_corrupt", "refused as " .. tostring(err.code))
    return
  end
  local packed = {}
  for i, record in ipairs(records) do
    -- Text that is not UTF-8 is read as it is, and refused where it is written.
    local ok, text = pcall(journal.pack, record)
    if not ok then
      assert(text.code == "validation_failed", tostring(text.code) .. ": " .. tostring(text.message))
      return
    end
    packed[i] = text
  end
  local again = assert(journal.unpack(table.concat(packed)))
  assert(#again == #records, "another number of records")
  for i, record in ipairs(again) do
    assert(journal.pack(record) == packed[i], "record " .. i .. " changes")
  end
  for _, record in ipairs(records) do
    if record.t then
      assert(value.encode(journal.public_event(record, "exec_1_x")))
    end
  end
end
