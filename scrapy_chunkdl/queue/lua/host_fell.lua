-- Note that a host fails, so that every process leaves it alone until it is tried again.
--
-- KEYS: 1 all hosts that are ill: host -> "state, ms since when, ms when it is tried next, ms of the pause before,
--         ms until when somebody tries it, how often it was tried, who tries it, why"; state: ill, or well again lately
-- ARGV: 1 token, 2 host, 3 why, 4 ms it asked to be left alone for, or 0, 5 first pause in ms, 6 longest, 7 jitter, 0 to 1,
--       8 most hosts noted, 9 ms for which nobody's host is remembered
-- Result: {ms since when, ms until it is tried next, how often it was tried}
--
-- The pause doubles with each try that fails, whoever made it; what was under way when the host fell makes it no longer.
-- A host that falls again soon after it was well begins with half of its last pause. The hash ends by itself.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local key, token, host, why, asked = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local first, longest, jitter, most, kept = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function read(record)
  local state, since, next_at, pause, trial_end, trials, holder = string.match(record or '', '^(%a+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) ')
  if not state then return nil end
  return {state = state, since = tonumber(since), next_at = tonumber(next_at), pause = tonumber(pause),
          trial_end = tonumber(trial_end), trials = tonumber(trials), holder = holder}
end

local known = read(redis.call('HGET', key, host))
if known and known.next_at + kept < now then known = nil end
if not known and redis.call('HLEN', key) >= most then
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local other = read(fields[i + 1])
    if not other or other.state == 'well' or other.next_at + kept < now then redis.call('HDEL', key, fields[i]) end
  end
  if redis.call('HLEN', key) >= most then return {0, math.max(first, asked), 0} end -- this process alone knows
end

local function pause_of(pause) return math.max(asked, math.floor(pause * (1 + jitter / 4))) end

if not known or known.state == 'well' then
  local pause = known and math.min(longest, math.max(first, known.pause / 2)) or first
  known = {since = now, next_at = now + pause_of(pause), pause = pause, trials = 0}
elseif known.holder == token and known.trial_end > now or known.next_at <= now then
  known.pause = math.min(longest, known.pause * 2)
  known.trials = known.trials + 1
  known.next_at = now + pause_of(known.pause)
else
  known.next_at = math.max(known.next_at, now + asked)
end
local record = {'ill', string.format('%.0f %.0f %.0f 0 %d -', known.since, known.next_at, known.pause, known.trials), why}
redis.call('HSET', key, host, table.concat(record, ' '))
if redis.call('PTTL', key) < known.next_at - now + kept then redis.call('PEXPIREAT', key, known.next_at + kept) end
return {now - known.since, known.next_at - now, known.trials}
