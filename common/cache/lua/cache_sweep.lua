#!lua
-- Takes out of tag indexes what has expired; Redis itself drops an index that becomes empty (cache_index.h).
--
-- ARGV   most to take out, index keys…
-- Reply  members taken out, members that remain (with most 0: that have not expired), indexes that remain, 1 when there was more to take out
local left, taken, remain, indexes, more = tonumber(ARGV[1]), 0, 0, 0, 0
local t = redis.call('TIME')
local now_ms = ('(%.0f'):format(t[1] * 1000 + math.floor(t[2] / 1000))
for i = 2, #ARGV do
	local expired = redis.call('ZCOUNT', ARGV[i], '-inf', now_ms)
	if expired > left then
		expired = left
		more = 1
	end
	if expired > 0 then
		redis.call('ZREMRANGEBYRANK', ARGV[i], 0, expired - 1)
		taken = taken + expired
		left = left - expired
	end
	local size = redis.call('ZCARD', ARGV[i])
	if ARGV[1] == '0' then size = size - redis.call('ZCOUNT', ARGV[i], '-inf', now_ms) end
	remain = remain + size
	if size > 0 then indexes = indexes + 1 end
end
return {taken, remain, indexes, more}
