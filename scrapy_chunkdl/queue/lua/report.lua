-- Keep what a process tells of itself, in place of what it told before, and tell it what operators ask of it.
--
-- KEYS: 1 :workers, a hash: token -> "ms when told, ms when first told, report"; 2 :control, a hash of wishes;
--       3 :watched, there while somebody looks; 4 :details, a hash: token -> "ms when told, details"; 5 :leases, 6 :delayed,
--       7 :parked_hosts
-- ARGV: 1 token, 2 the report, 3 ms for which it is kept when the process tells no more,
--       4 what it tells in detail, or '', 5 ms for which that is kept
-- Result: {1 if it is to claim nothing, its limit in bytes per second or '', 1 if somebody looks}
--
-- Reports of processes that have died go when a new process comes, or with the whole key when nobody tells any more:
-- looking through all of them at each report would cost O(processes) for nothing. What was asked of them goes, too.
-- What this process told last is of the future only if Redis' clock was set back. Then all times that wait for their hour
-- are set back with it, those of reports among them: so the next process finds nothing left to do. O(leases + delayed + hosts).
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local key, control, token, report, kept = KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGET', key, token)
local told, since = string.match(known or '', '^(%d+) (%d+) ')

local function set_back(by)
  for _, due in ipairs({KEYS[5], KEYS[6], KEYS[7]}) do
    local scored = redis.call('ZRANGE', due, 0, -1, 'WITHSCORES')
    for i = 1, #scored, 2 do redis.call('ZINCRBY', due, -by, scored[i]) end
  end
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local when, first, rest = string.match(fields[i + 1], '^(%d+) (%d+) (.*)$')
    if when and tonumber(when) > now then
      redis.call('HSET', key, fields[i], string.format('%.0f %.0f %s', when - by, first - by, rest))
    end
  end
  since = string.format('%.0f', since - by)
end

if told and told - now > 2000 and told - now < 30 * 86400000 then set_back(told - now) end
if not since then
  since = now
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local told = tonumber(string.match(fields[i + 1], '^%d+') or 0)
    if told + kept <= now then redis.call('HDEL', key, fields[i]) end
  end
  for _, wish in ipairs(redis.call('HKEYS', control)) do
    local worker = string.match(wish, '^paused (.+)$')
    if worker and worker ~= token and redis.call('HEXISTS', key, worker) == 0 then redis.call('HDEL', control, wish) end
  end
end
redis.call('HSET', key, token, now .. ' ' .. since .. ' ' .. report)
redis.call('PEXPIRE', key, kept)
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[4], token, now .. ' ' .. ARGV[4])
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
end
local wishes = redis.call('HMGET', control, 'paused', 'paused ' .. token, 'max_rate')
return {(wishes[1] or wishes[2]) and 1 or 0, wishes[3] or '', redis.call('EXISTS', KEYS[3])}
