-- Count what came towards the budgets of a day and an hour, once, and set aside what a process is about to use of them.
--
-- KEYS: 1 counts of the day, 2 counts of the hour: hashes, "bytes HOST" or "files HOST" -> number; 3 a hash: token ->
--       number of its last part; 4 a sorted set: token -> ms when it told last; 5 a hash: token -> what it has set aside,
--       as JSON: {"day files HOST": number}; '' -> bytes of the largest file that anybody told of
-- ARGV: 1 token, 2 number of this part, 3 the day and 4 the hour that keys 1 and 2 are of, since 1970,
--       5 most fields of a hash, 6 ms for which a token is remembered, 7 ms after which a process counts for gone,
--       8 bytes of the largest file it knows, 9 how many counts follow: for each 'day' or 'hour', its field, what to add;
--       then for each that is asked for 'day' or 'hour', its field, the budget, what it needs for what has begun, what it
--       wants with what it would begin, and the first of that
-- Result: {1 if it counts, now or before, 0 if the day or the hour is another; now in ms; bytes of the largest file; for
--          each that was asked for: what is used, what others have set aside, what this process may use besides}
--
-- used + all that is set aside <= budget, as nobody gets more than is free. Where a first file or item is larger than what
-- is left it gets that all the same once nothing else is under way: of bytes, as nobody knows before how large a file is,
-- and of files where it has more than the whole budget. So nothing waits for ever.
-- A part that is sent again, as its reply was lost, adds nothing. Counts end with the day or hour after theirs. O(processes)
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local keys, told, alive, aside = {day = KEYS[1], hour = KEYS[2]}, KEYS[3], KEYS[4], KEYS[5]
local token, part, most, counts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if math.floor(time[1] / 86400) ~= tonumber(ARGV[3]) or math.floor(time[1] / 3600) ~= tonumber(ARGV[4]) then
  return {0, now, 0}
end

if tonumber(redis.call('HGET', told, token) or -1) < part then
  for i = 10, 9 + 3 * counts, 3 do
    local key, field = keys[ARGV[i]], ARGV[i + 1]
    if redis.call('HEXISTS', key, field) == 1 or redis.call('HLEN', key) < most then
      redis.call('HINCRBY', key, field, ARGV[i + 2])
    end
  end
  redis.call('EXPIRE', keys.day, 2 * 86400)
  redis.call('EXPIRE', keys.hour, 2 * 3600)
  redis.call('HSET', told, token, part)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now - tonumber(ARGV[6]))) do
  redis.call('HDEL', told, gone)
  redis.call('HDEL', aside, gone)
  redis.call('ZREM', alive, gone)
end
redis.call('ZADD', alive, now, token)
local largest = math.max(tonumber(ARGV[8]), tonumber(redis.call('HGET', aside, '') or 0))
redis.call('HSET', aside, '', string.format('%.0f', largest))

local of_others = {}
for _, other in ipairs(redis.call('ZRANGEBYSCORE', alive, now - tonumber(ARGV[7]), '+inf')) do
  local has = other ~= token and redis.call('HGET', aside, other)
  for name, number in pairs(has and cjson.decode(has) or {}) do of_others[name] = (of_others[name] or 0) + number end
end

local function granted(field, budget, used, others, needs, wants, first)
  local free = budget - used - others
  local gets = math.max(needs, math.min(wants, free))
  local may_be_more = first > budget or string.sub(field, 1, 6) == 'bytes '
  if wants > 0 and gets < first and needs == 0 and others == 0 and free > 0 and may_be_more then gets = first end
  return gets
end

local result, mine, has_any = {1, now, largest}, {}, false
for i = 10 + 3 * counts, #ARGV, 6 do
  local period, field = ARGV[i], ARGV[i + 1]
  local budget, needs, wants, first = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  local name = period .. ' ' .. field
  local used, others = tonumber(redis.call('HGET', keys[period], field) or 0), of_others[name] or 0
  local gets = granted(field, budget, used, others, needs, wants, first)
  if gets > 0 then mine[name], has_any = gets, true end
  result[#result + 1], result[#result + 2], result[#result + 3] = used, others, gets
end
if has_any then
  redis.call('HSET', aside, token, cjson.encode(mine))
else
  redis.call('HDEL', aside, token)
end
for _, key in ipairs({told, alive, aside}) do redis.call('PEXPIRE', key, ARGV[6]) end
return result
