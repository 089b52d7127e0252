-- write_cut: one cut of a lane, all of it or nothing.
--   KEYS[1]  the lane hash   KEYS[2]  spans   KEYS[3]  logs   KEYS[4]  working
--   KEYS[5..]  what the steps below name by their position in KEYS
--   ARGV[1]  format          ARGV[2]  the owner's epoch
--   ARGV[3]  next_offset that must be stored      ARGV[4]  next_offset of this cut
--   ARGV[5]  this cut's number in its epoch       ARGV[6]  the number before it, which must be stored
--   ARGV[7]  the lane hash's fields, packed       ARGV[8]  n; then n pairs (log, bytes that it must hold now)
--   then steps of three: what, position of a key in KEYS, bytes
--     HSET, SADD, HDEL   the packed strings are the command's arguments
--     APPEND             the bytes, as they are
--     UNLINK             (bytes unused)
--     DROP               packed (n, span, log): unless the key, a span's list of work, exists: unlink the n keys that
--                        follow it, take the span out of KEYS[2] and the log out of KEYS[3]
-- "Packed" is a row of msgpack strings without a frame around it, at most 4,000 of them: cmsgpack.unpack returns them
-- as that many values, so no table is built and Lua does no work for each window.
-- Answers {"OK", span dropped, ...}, {"ALREADY", cut}, {"FENCED", epoch, next_offset, cut} or {"STALE", log}.
--
-- A script that fails after its first write is not rolled back. So everything that can fail is looked at first: format,
-- epoch, offset, number, what the logs hold, and the type of every key that a step writes. Memory: Redis decides
-- whether it is over maxmemory when the script starts; the first write here is an HSET, which is then refused, and once
-- a write has been let through no later one in the same script is refused.
local stored = redis.call('HMGET', KEYS[1], 'format', 'epoch', 'next_offset', 'cut')
if not stored[1] and redis.call('EXISTS', KEYS[1]) == 0 then
    return {'FENCED', '0', '-1', '0'}
end
if stored[1] ~= ARGV[1] then
    return redis.error_reply('WEIRFORMAT ' .. (stored[1] or 'none'))
end
if stored[2] == ARGV[2] and stored[3] == ARGV[4]
    and (stored[4] == ARGV[5] or (stored[4] == ARGV[6] and ARGV[3] ~= ARGV[4])) then
    return {'ALREADY', stored[4]}
end
if stored[2] ~= ARGV[2] or stored[3] ~= ARGV[3] or stored[4] ~= ARGV[6] then
    return {'FENCED', stored[2], stored[3], stored[4]}
end
local first = 9
for _ = 1, tonumber(ARGV[8]) do
    if (redis.call('HGET', KEYS[3], ARGV[first]) or '0') ~= ARGV[first + 1] then
        return {'STALE', ARGV[first]}
    end
    first = first + 2
end
local types = {HSET = 'hash', HDEL = 'hash', SADD = 'set', APPEND = 'string', DROP = 'hash'}
local function wrong(key, wanted)
    local found = redis.call('TYPE', key).ok
    return found ~= 'none' and found ~= wanted
end
if wrong(KEYS[2], 'set') then
    return redis.error_reply('WRONGTYPE ' .. KEYS[2])
end
for i = first, #ARGV, 3 do
    local key = KEYS[tonumber(ARGV[i + 1])]
    if types[ARGV[i]] and wrong(key, types[ARGV[i]]) then
        return redis.error_reply('WRONGTYPE ' .. key)
    end
end

redis.call('HSET', KEYS[1], cmsgpack.unpack(ARGV[7]))
local answer = {'OK'}
for i = first, #ARGV, 3 do
    local what, at, bytes = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    if what == 'APPEND' then
        redis.call('APPEND', KEYS[at], bytes)
    elseif what == 'UNLINK' then
        redis.call('UNLINK', KEYS[at])
    elseif what == 'DROP' then
        if redis.call('EXISTS', KEYS[at]) == 0 then
            local count, span, log = cmsgpack.unpack(bytes)
            for k = at + 1, at + tonumber(count) do
                redis.call('UNLINK', KEYS[k])
            end
            redis.call('SREM', KEYS[2], span)
            redis.call('HDEL', KEYS[3], log)
            answer[#answer + 1] = span
        end
    else
        redis.call(what, KEYS[at], cmsgpack.unpack(bytes))
    end
end
return answer
