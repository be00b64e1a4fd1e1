#!lua
-- Frees the entries that carry every one of several tags (cache_index.h). Nothing is raised: entries under some of the tags alone stay readable.
--
-- Another service's, which its user may not look at, stay too.
-- ARGV   mode ('free', 'count'), news channel, members to look at, rank to go on at, then for each tag: index key, epoch key, hash; the first index is walked
-- Reply  live entries, unreachable ones, rank to go on at (-1: done)
local mode, most, from = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local hashes, epochs, indexes = {}, {}, {}
for i = 5, #ARGV, 3 do
	indexes[#indexes + 1] = ARGV[i]
	epochs[#epochs + 1] = redis.call('GET', ARGV[i + 1]) or ''
	hashes[#hashes + 1] = ARGV[i + 2]
end

local function number_text(s)
	local n = 0
	for i = 8, 1, -1 do n = n * 256 + s:byte(i) end
	return ('%.0f'):format(n)
end

-- Has the envelope all tags, and is it good under all of them?
local function look(head)
	local has = {}
	if type(head) ~= 'string' or head == '' or head:byte(1) ~= 1 then return false, false end
	for at = 41, 25 + 16 * head:byte(4), 16 do has[head:sub(at, at + 7)] = head:sub(at + 8, at + 15) end
	local good = true
	for i = 1, #hashes do
		local epoch = has[hashes[i]]
		if not epoch then return false, false end
		if number_text(epoch) ~= epochs[i] then good = false end
	end
	return true, good
end

local members = redis.call('ZRANGE', indexes[1], from, from + most - 1)
local live, stale, gone = 0, 0, {}
for i = 1, #members do
	local all, good = look(redis.pcall('GETRANGE', members[i], 0, 231))
	if all then
		gone[#gone + 1] = members[i]
		if good then live = live + 1 else stale = stale + 1 end
	end
end
if mode == 'free' and #gone > 0 then
	redis.call('UNLINK', unpack(gone))
	for i = 1, #indexes do redis.call('ZREM', indexes[i], unpack(gone)) end
	redis.call('PUBLISH', ARGV[2], 'd ' .. (#gone > 64 and '*' or table.concat(gone, ' ')))
	from = from - #gone
end
return {live, stale, #members < most and -1 or from + #members}
