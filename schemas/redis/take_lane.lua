-- take_lane: become the owner of a lane. Creates the lane if there is none, raises its epoch, starts the count of cuts.
--   KEYS[1]  the lane hash
--   ARGV[1]  format   ARGV[2]  the first fields of a new lane, as concatenated msgpack strings (field, value, ...)
--   ARGV[3..] fields to return
-- Answers the values of those fields. The format is checked before the first write; HINCRBY, the first write that can
-- fail, comes first for a lane that exists, so that nothing is ever half done.
local format = redis.call('HGET', KEYS[1], 'format')
if not format then
    if redis.call('EXISTS', KEYS[1]) == 1 then
        return redis.error_reply('WEIRFORMAT none')
    end
    redis.call('HSET', KEYS[1], cmsgpack.unpack(ARGV[2]))
elseif format ~= ARGV[1] then
    return redis.error_reply('WEIRFORMAT ' .. format)
end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'cut', '0')
return redis.call('HMGET', KEYS[1], unpack(ARGV, 3))
