#!lua flags=allow-oom
-- VERIFY: proves for a few ids that the keys agree about them, and mends what does not. One step of Redis: no PUT, CLAIM, ACK or NACK runs in
-- between, so what it finds is wrong and not merely on its way.
--
-- ARGV   per item (1-50): entity, id, scope: '' looks at the id itself, "kind:value" asks whether the id belongs in that list
-- Reply  {item, kind, item, kind...} (items count from 1), what was wrong and has been mended:
--        orphan         a record in none of the four sets: pending now, at its own first ms
--        several        an id in more than one: it stays in the first of lease, retry, pending, dlq
--        no_record      an id in a set, without a record: removed
--        owner_missing  leased, and nobody has it: '' has it until the lease ends
--        owner_stale    somebody has what is not leased: forgotten
--        scope_missing  a record that a list of its own lacks: added
--        scope_stale    a list names what has no record, or a record that does not name the list: removed
local HEADER_SIZE, SCOPES_AT, FIRST_AT = 49, 47, 11
local SETS = {'wb:lease:', 'wb:retry:', 'wb:pending:', 'wb:dlq:'}
if #ARGV < 3 or #ARGV > 150 or #ARGV % 3 ~= 0 then return redis.error_reply('ERR VERIFY: bad number of arguments') end

local t = redis.call('TIME')
local now = math.floor((t[1] * 1000000 + t[2]) / 1000)
local found = {}

-- The lists that a record names; nil: it is damaged (the worker parks it), and nothing is concluded from it.
local function scopes_of(record)
  if #record < HEADER_SIZE then return nil end
  local at, list = HEADER_SIZE + 1, {}
  local stop = at + struct.unpack('<H', record, SCOPES_AT)
  if stop - 1 > #record then return nil end
  while at < stop do
    local after = at + 1 + record:byte(at)
    if after > stop then return nil end
    list[record:sub(at + 1, after - 1)] = true
    at = after
  end
  return list
end

for at = 1, #ARGV, 3 do
  local entity, id, scope = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local record = redis.call('GET', 'write_buffer:' .. entity .. ':' .. id)
  local scopes = record and scopes_of(record)
  local function report(kind)
    found[#found + 1] = (at + 2) / 3
    found[#found + 1] = kind
  end
  if scope ~= '' then
    local stale = not record or scopes and not scopes[scope]
    if stale and redis.call('HDEL', 'wb:scope:' .. entity .. ':' .. scope, id) == 1 then report('scope_stale') end
  else
    local kept
    for _, set in ipairs(SETS) do
      if redis.call('ZSCORE', set .. entity, id) then
        if record and not kept then
          kept = set
        else
          redis.call('ZREM', set .. entity, id)
          report(record and 'several' or 'no_record')
        end
      end
    end
    if record and not kept then
      kept = 'wb:pending:'
      redis.call('ZADD', kept .. entity, scopes and math.min(now, (struct.unpack('<I8', record, FIRST_AT))) or now, id)
      report('orphan')
    end
    local owner = redis.call('HGET', 'wb:own:' .. entity, id)
    if kept == 'wb:lease:' and not owner then
      redis.call('HSET', 'wb:own:' .. entity, id, '')
      report('owner_missing')
    elseif kept ~= 'wb:lease:' and owner then
      redis.call('HDEL', 'wb:own:' .. entity, id)
      report('owner_stale')
    end
    for name in pairs(scopes or {}) do
      if redis.call('HSET', 'wb:scope:' .. entity .. ':' .. name, id, '') == 1 then report('scope_missing') end
    end
  end
end
return found
