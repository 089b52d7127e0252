-- finish_work: these windows are rated; take them off the list of work unless they have changed since.
--   KEYS[1]  the lane hash   KEYS[2]  working   KEYS[3..]  a work hash for each span
--   ARGV[1]  format; then steps of four: position of a work hash in KEYS, its span, packed fields, packed tokens
-- Both packed strings are rows of at most 4,000 msgpack strings without a frame; the n-th token belongs to the n-th field.
-- Answers how many left the list. Only deletes: it works while Redis is out of memory, and a repeat finds nothing to do.
local format = redis.call('HGET', KEYS[1], 'format')
if not format and redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
if not format or #format ~= 1 or format < '1' or format > ARGV[1] then
    return redis.error_reply('WEIRFORMAT ' .. (format or 'none'))
end
local working = redis.call('TYPE', KEYS[2]).ok
if working ~= 'none' and working ~= 'set' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[2])
end
for k = 3, #KEYS do
    local found = redis.call('TYPE', KEYS[k]).ok
    if found ~= 'none' and found ~= 'hash' then
        return redis.error_reply('WRONGTYPE ' .. KEYS[k])
    end
end
local finished = 0
for i = 2, #ARGV, 4 do
    local key = KEYS[tonumber(ARGV[i])]
    local fields, tokens = {cmsgpack.unpack(ARGV[i + 2])}, {cmsgpack.unpack(ARGV[i + 3])}
    local stored = redis.call('HMGET', key, unpack(fields))
    local done = {}
    for n = 1, #fields do
        if stored[n] == tokens[n] then
            done[#done + 1] = fields[n]
        end
    end
    if #done > 0 then
        finished = finished + redis.call('HDEL', key, unpack(done))
    end
    if redis.call('EXISTS', key) == 0 then
        redis.call('SREM', KEYS[2], ARGV[i + 1])
    end
end
return finished
