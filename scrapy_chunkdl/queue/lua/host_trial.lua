-- Ask to try a host that is ill: one process at a time may, when it is time.
--
-- KEYS: 1 all hosts that are ill, as host_fell.lua keeps them
-- ARGV: 1 token, 2 host, 3 ms for which the others wait for what comes of it
-- Result: {'well' | 'try' | 'wait', ms until it may be asked again, or 0}
-- A process that dies meanwhile is waited for no longer than that. The same again gets the same.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local key, token, host = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before, next_at, pause, trial_end, trials, holder, why =
  string.match(redis.call('HGET', key, host) or '', '^ill (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (.*)$')
if not before then return {'well', 0} end
next_at, trial_end = tonumber(next_at), tonumber(trial_end)
if next_at > now then return {'wait', next_at - now} end
if trial_end > now and holder ~= token then return {'wait', trial_end - now} end
trial_end = string.format('%.0f', now + tonumber(ARGV[3]))
redis.call('HSET', key, host, table.concat({'ill', before, string.format('%.0f', next_at), pause, trial_end, trials, token, why}, ' '))
return {'try', 0}
