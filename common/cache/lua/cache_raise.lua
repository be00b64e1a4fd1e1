#!lua
-- Raises the epochs of tags: what was filled before is unreachable from now on (cache.h). Never back to a lower number.
--
-- ARGV   news channel, epochs' life in s, epoch keys…, among them '#<event>': not raised, said in the news alone
-- Reply  number of what was said
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local text = ('%.0f'):format(now)
for i = 3, #ARGV do
	if ARGV[i]:byte() ~= 35 then
		local old = tonumber(redis.call('SET', ARGV[i], text, 'EX', ARGV[2], 'GET') or 0)
		if old >= now then
			redis.call('SET', ARGV[i], ('%.0f'):format(old + 1), 'EX', ARGV[2])
		end
	end
end
redis.call('PUBLISH', ARGV[1], 'r ' .. table.concat(ARGV, ' ', 3))
return #ARGV - 2
