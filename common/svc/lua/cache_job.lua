#!lua
-- A job of the fleet: who runs it, and what came of it (cache_warm.h).
--
-- ARGV   'begin', state, lock, job, token, lock's life in ms, not sooner than so many ms after the last run (0: when its time has come)
-- Reply  1: run it; 0: it is paused, not due, or another runs it
-- ARGV   'end', state, lock, job, token, record "last next took warmed skipped failed outcome", state's life in s
-- Reply  1; 0: the lock is another's by now, and nothing is noted
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[1] == 'begin' then
	if redis.call('HGET', ARGV[2], ARGV[4] .. '!paused') then return 0 end
	local record = redis.call('HGET', ARGV[2], ARGV[4])
	if record then
		local last, next_run = record:match('^(%d+) (%d+)')
		if ARGV[7] == '0' and next_run and tonumber(next_run) > now then return 0 end
		if ARGV[7] ~= '0' and last and tonumber(last) + tonumber(ARGV[7]) > now then return 0 end
	end
	return redis.call('SET', ARGV[3], ARGV[5], 'NX', 'PX', ARGV[6]) and 1 or 0
end
if redis.call('GET', ARGV[3]) ~= ARGV[5] then return 0 end
redis.call('DEL', ARGV[3])
redis.call('HSET', ARGV[2], ARGV[4], ARGV[6])
redis.call('EXPIRE', ARGV[2], ARGV[7])
return 1
