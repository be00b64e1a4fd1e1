#!lua
-- Invalidates tags: raises all their epochs first, so that nothing under them is readable any more, then frees what their indexes name (cache_index.h).
--
-- ARGV   mode ('raise': raise and free; 'free': go on freeing; 'count': change nothing), news channel, epochs' life in s, members to look at,
--        for 'count' the hashes of all tags of the invalidation in their order, then for each tag: index key, epoch key, hash of the tag as envelopes
--        have it, epoch before, epoch after ('' when mode is not 'free'), rank to go on at, its place among all tags
-- Reply  for each tag: live entries, expired members, entries that were unreachable before, epoch before, epoch after, rank to go on at (-1: done)
-- An index is ordered by the ends of its members, so what has expired stands in front and is not looked at. An entry that was overwritten with other tags,
-- or filled since the raising, stays; of the latter so does its member. Counting leaves out what an earlier tag of the order has counted.
-- Whose user may not look at another service's entries leaves them, unreachable, to their end, and does not count them.
local mode, left, reply, raised = ARGV[1], tonumber(ARGV[4]), {}, {}
local t = redis.call('TIME')
local now_ms = ('(%.0f'):format(t[1] * 1000 + math.floor(t[2] / 1000))

local function bytes_of(n)
	local s = {}
	for i = 1, 8 do
		s[i] = n % 256
		n = math.floor(n / 256)
	end
	return string.char(unpack(s))
end

local function number_of(s)
	local n = 0
	for i = 8, 1, -1 do n = n * 256 + s:byte(i) end
	return n
end

-- The epoch that an envelope (cache_internal.h) has of a tag, as its eight bytes; nil: the tag is none of its own.
local function epoch_in(head, hash)
	if head:byte(1) ~= 1 then return '' end
	for at = 41, 25 + 16 * head:byte(4), 16 do
		if head:sub(at, at + 7) == hash then return head:sub(at + 8, at + 15) end
	end
end

local order = {}
for i = 1, #ARGV[5], 8 do
	local hash = ARGV[5]:sub(i, i + 7)
	if not order[hash] then order[hash] = (i - 1) / 8 end
end

local function counted_before(head, place)
	if head:byte(1) ~= 1 then return false end
	for at = 41, 25 + 16 * head:byte(4), 16 do
		local other = order[head:sub(at, at + 7)]
		if other and other < place then return true end
	end
	return false
end

local function head_of(key)
	local head = redis.pcall('GETRANGE', key, 0, 231)
	return type(head) == 'string' and head or nil
end

local tags = {}
for i = 6, #ARGV, 7 do
	local tag = {index = ARGV[i], epoch = ARGV[i + 1], hash = ARGV[i + 2], before = tonumber(ARGV[i + 3]), after = tonumber(ARGV[i + 4]), from = tonumber(ARGV[i + 5]),
		place = tonumber(ARGV[i + 6])}
	if mode ~= 'free' then
		tag.before = tonumber(redis.call('GET', tag.epoch) or 0)
		tag.after = tag.before
	end
	if mode == 'raise' then
		tag.after = math.max(t[1] * 1000000 + t[2], tag.before + 1)
		redis.call('SET', tag.epoch, ('%.0f'):format(tag.after), 'EX', ARGV[3])
		raised[#raised + 1] = tag.epoch
	end
	tags[#tags + 1] = tag
end
if #raised ~= 0 then redis.call('PUBLISH', ARGV[2], 'r ' .. table.concat(raised, ' ')) end

for _, tag in ipairs(tags) do
	local live, stale, expired, gone, stay = 0, 0, 0, {}, 0
	local before, after, from, done = bytes_of(tag.before), bytes_of(tag.after), tag.from, false
	if from == 0 and left > 0 then
		expired = redis.call('ZCOUNT', tag.index, '-inf', now_ms)
		if mode == 'count' then
			from = expired
		elseif expired > left then
			expired = left
		end
		if mode ~= 'count' and expired > 0 then
			redis.call('ZREMRANGEBYRANK', tag.index, 0, expired - 1)
			left = left - expired
		end
	end
	if left > 0 then
		local members = redis.call('ZRANGE', tag.index, from, from + left - 1)
		local removed = {}
		done = #members < left
		left = left - #members
		for i = 1, #members do
			local head = head_of(members[i])
			local epoch = head and head ~= '' and epoch_in(head, tag.hash) or nil
			if not head then
				stay = stay + 1
			elseif mode == 'count' and head ~= '' and counted_before(head, tag.place) then
				epoch = nil
			elseif epoch == before then
				live = live + 1
				gone[#gone + 1] = members[i]
				removed[#removed + 1] = members[i]
			elseif epoch and epoch ~= '' and mode ~= 'count' and (epoch == after or number_of(epoch) > tag.after) then
				stay = stay + 1
			else
				if epoch then
					stale = stale + 1
					gone[#gone + 1] = members[i]
				end
				removed[#removed + 1] = members[i]
			end
		end
		if mode == 'count' then
			from = from + #members
		else
			if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
			if stay == 0 and #members > 0 then
				redis.call('ZREMRANGEBYRANK', tag.index, from, from + #members - 1)
			elseif #removed > 0 then
				redis.call('ZREM', tag.index, unpack(removed))
			end
			from = from + stay
		end
	end
	reply[#reply + 1] = live
	reply[#reply + 1] = expired
	reply[#reply + 1] = stale
	reply[#reply + 1] = tag.before
	reply[#reply + 1] = tag.after
	reply[#reply + 1] = done and -1 or from
end
return reply
