-- Note that a host serves again. It is remembered for a while, in case it falls again soon.
--
-- KEYS: 1 all hosts that are ill, as host_fell.lua keeps them
-- ARGV: 1 host
-- Result: ms for which it was ill, -1 if it was not
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local key, host = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since, pause = string.match(redis.call('HGET', key, host) or '', '^ill (%d+) %d+ (%d+) ')
if not since then return -1 end
redis.call('HSET', key, host, table.concat({'well', since, string.format('%.0f', now), pause, '0 0 - -'}, ' '))
return now - tonumber(since)
