#!lua
-- GCRA: the generic cell rate algorithm, one atomic step. The key holds the theoretical arrival time in microseconds.
--
-- ARGV   key, emission interval in us (period / limit), burst (requests that may come at once)
-- Reply  {allowed 0|1, requests left of the burst, us until the next is allowed (0 when allowed), us until the burst is full again}
local key, interval, burst = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if #ARGV ~= 3 or not (interval and burst) or interval < 1 or burst < 1 then return redis.error_reply('ERR GCRA: bad arguments') end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local tat = math.max(tonumber(redis.call('GET', key) or 0), now)
local after = tat + interval
local wait = after - burst * interval - now
if wait > 0 then return {0, 0, wait, tat - now} end
redis.call('SET', key, ('%.0f'):format(after), 'PX', math.ceil((after - now) / 1000) + 1)
return {1, math.floor((burst * interval - (after - now)) / interval), 0, after - now}
