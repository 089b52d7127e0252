-- take_lane: become the owner of a lane. Creates the lane if there is none, raises its epoch, starts the count of cuts.
--   KEYS[1]  the lane hash
--   ARGV[1]  format   ARGV[2]  the first fields of a new lane, as concatenated msgpack strings (field, value, ...)
--   ARGV[3]  by how much the epoch is raised (aggregator/epoch.h)   ARGV[4..] fields to return
-- A lane of an earlier format may lack some of those first fields: it gets them, and is of this format from then on. (Its windows and
-- ids stay as they are: they are told apart by their length and by the logs' names.)
-- Answers the values of those fields. The format is checked before the first write; HINCRBY, the first write that can
-- fail, comes first for a lane that exists, so that nothing is ever half done.
local format = redis.call('HGET', KEYS[1], 'format')
if not format then
    if redis.call('EXISTS', KEYS[1]) == 1 then
        return redis.error_reply('WEIRFORMAT none')
    end
    redis.call('HSET', KEYS[1], cmsgpack.unpack(ARGV[2]))
elseif #format ~= 1 or format < '1' or format > ARGV[1] then
    return redis.error_reply('WEIRFORMAT ' .. format)
end
redis.call('HINCRBY', KEYS[1], 'epoch', ARGV[3])
redis.call('HSET', KEYS[1], 'cut', '0')
if format and format ~= ARGV[1] then
    local first = {cmsgpack.unpack(ARGV[2])}
    for i = 1, #first, 2 do
        redis.call('HSETNX', KEYS[1], first[i], first[i + 1])
    end
    redis.call('HSET', KEYS[1], 'format', ARGV[1])
end
return redis.call('HMGET', KEYS[1], unpack(ARGV, 4))
