#!lua flags=no-writes
-- AS_OF: how much of some entities the table does not have yet, and up to when it is complete.
--
-- ARGV   most (members looked at in a set that is not in the order of age), entity...
-- Reply  {unsynced records, first-unsynced ms of the oldest (0: none, -1: too many to look at), now in µs}
--        Pending's head is its oldest. Retry, lease and dlq stand in the order of what is due, so each of their records is asked.
local most, count, oldest = tonumber(ARGV[1]), 0, nil
if not most or most < 1 or #ARGV < 2 then return redis.error_reply('ERR AS_OF: bad arguments') end

local function ask(entity, id)
  local first = redis.call('GETRANGE', 'write_buffer:' .. entity .. ':' .. id, 10, 17)
  if #first == 8 then
    first = struct.unpack('<I8', first)
    if not oldest or first < oldest then oldest = first end
  end
end

local unknown = false
for i = 2, #ARGV do
  local entity = ARGV[i]
  for _, set in ipairs({'wb:pending:', 'wb:retry:', 'wb:lease:', 'wb:dlq:'}) do
    local n = redis.call('ZCARD', set .. entity)
    count = count + n
    if set ~= 'wb:pending:' and n > most then
      unknown = true
    else
      for _, id in ipairs(redis.call('ZRANGE', set .. entity, 0, set == 'wb:pending:' and 0 or -1)) do ask(entity, id) end
    end
  end
end
local t = redis.call('TIME')
return {count, unknown and -1 or oldest or 0, t[1] * 1000000 + t[2]}
