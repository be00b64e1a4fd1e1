#!lua
-- Keeps an entry, notes it under its tags, frees the lock of whoever filled it, and tells those who wait (cache.h).
--
-- ARGV   entry key, value ('': there is none, free the lock alone), life in ms, lock key or '', token, news channel, index keys…
-- Reply  1
-- An index is a sorted set of entry keys by the time of their end in ms; it lives as long as its longest entry.
if ARGV[2] ~= '' then
	redis.call('SET', ARGV[1], ARGV[2], 'PX', ARGV[3])
	local t = redis.call('TIME')
	local till = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
	for i = 7, #ARGV do
		redis.call('ZADD', ARGV[i], ('%.0f'):format(till), ARGV[1])
		if redis.call('PTTL', ARGV[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', ARGV[i], ARGV[3]) end
	end
end
if ARGV[4] ~= '' then
	if redis.call('GET', ARGV[4]) == ARGV[5] then redis.call('DEL', ARGV[4]) end
	redis.call('PUBLISH', ARGV[6], 'f ' .. ARGV[1])
end
return 1
