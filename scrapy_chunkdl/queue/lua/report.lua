-- Keep what a process tells of itself, in place of what it told before.
--
-- KEYS: 1 :workers, a hash: token -> "ms when told, ms when first told, report"
-- ARGV: 1 token, 2 the report, 3 ms for which it is kept when the process tells no more
-- Result: 1
--
-- Reports of processes that have died go when a new process comes, or with the whole key when nobody tells any more:
-- looking through all of them at each report would cost O(processes) for nothing.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local key, token, report, kept = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGET', key, token)
local since = known and string.match(known, '^%d+ (%d+) ')
if not since then
  since = now
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local told = tonumber(string.match(fields[i + 1], '^%d+') or 0)
    if told + kept <= now then redis.call('HDEL', key, fields[i]) end
  end
end
redis.call('HSET', key, token, now .. ' ' .. since .. ' ' .. report)
redis.call('PEXPIRE', key, kept)
return 1
