#!lua
-- Who fills a missing entry, and the epochs as they are before the source is asked (cache.h). A missing epoch counts as just raised.
--
-- ARGV   lock key ('': nobody else is kept out), token, lock's life in ms, epochs' life in s, epoch keys…
-- Reply  {1: fill it; 0: another does, epoch…}
local t = redis.call('TIME')
local now = ('%.0f'):format(t[1] * 1000000 + t[2])
local reply = {0}
if ARGV[1] == '' or redis.call('SET', ARGV[1], ARGV[2], 'NX', 'PX', ARGV[3]) then reply[1] = 1 end
for i = 5, #ARGV do
	local epoch = redis.call('GET', ARGV[i])
	if not epoch then
		epoch = now
		redis.call('SET', ARGV[i], epoch, 'EX', ARGV[4])
	end
	reply[#reply + 1] = epoch
end
return reply
