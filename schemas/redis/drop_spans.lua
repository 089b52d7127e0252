-- drop_spans: drop the windows of old spans, except where a rater still has work. Runs inside a cut's transaction.
--   KEYS[1]  spans   KEYS[2]  logs   KEYS[3]  working
--   KEYS[4..]  for each span: its list of work, its windows, then the strings of its log of unique fingerprints
--   ARGV  pairs, one for each span: "<start>:<end>", how many of KEYS are its own
-- Answers the spans that were dropped. One that is not is tried again with the next cut. Only deletes.
local dropped = {}
local key = 4
for i = 1, #ARGV, 2 do
    local span, count = ARGV[i], tonumber(ARGV[i + 1])
    if redis.call('EXISTS', KEYS[key]) == 0 then
        for k = key + 1, key + count - 1 do
            redis.call('UNLINK', KEYS[k])
        end
        redis.call('SREM', KEYS[1], span)
        redis.call('HDEL', KEYS[2], 'unique:' .. span)
        redis.call('SREM', KEYS[3], span)
        dropped[#dropped + 1] = span
    end
    key = key + count
end
return dropped
