#!lua
-- LOGIN_GATE: counts a try to sign in and says how long to wait; the try is counted before the password is looked at.
--
-- ARGV   key (a hash: n tries, next in ms), which a successful login deletes
-- Reply  ms to wait (0: go on; then the try has been counted)
-- Three tries are free; then the next one waits 1, 2, 4, 8 … s, at most 15 min. An hour without a try forgets.
local key = ARGV[1]
if #ARGV ~= 1 then return redis.error_reply('ERR LOGIN_GATE: bad number of arguments') end
local t = redis.call('TIME')
local now = math.floor((t[1] * 1000000 + t[2]) / 1000)
local state = redis.call('HMGET', key, 'n', 'next')
local n, next_at = tonumber(state[1] or 0), tonumber(state[2] or 0)
if now < next_at then return next_at - now end
n = n + 1
local delay = n < 3 and 0 or math.min(900000, 1000 * 2 ^ math.min(n - 3, 20))
redis.call('HSET', key, 'n', n, 'next', ('%.0f'):format(now + delay))
redis.call('EXPIRE', key, 3600)
return 0
