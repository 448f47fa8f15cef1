-- Count what came towards the budgets of a day and an hour, once, and tell how much of them is used.
--
-- KEYS: 1 counts of the day, 2 counts of the hour: hashes, "bytes HOST" or "files HOST" -> number; 3 a hash: token ->
--       number of its last part; 4 a sorted set: token -> ms when it told last
-- ARGV: 1 token, 2 number of this part, 3 the day and 4 the hour that keys 1 and 2 are of, since 1970,
--       5 most fields of a hash, 6 ms for which a token is remembered, 7 ms after which a process counts for gone,
--       8 how many counts follow: for each 'day' or 'hour', its field, what to add; then for each that is asked for
--       'day' or 'hour', its field
-- Result: {1 if it counts, now or before, 0 if the day or the hour is another; now in ms; processes that told lately;
--          the numbers that were asked for}
--
-- A part that is sent again, as its reply was lost, adds nothing. Counts end with the day or hour after theirs.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local keys, told, alive = {day = KEYS[1], hour = KEYS[2]}, KEYS[3], KEYS[4]
local token, part, most, counts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if math.floor(time[1] / 86400) ~= tonumber(ARGV[3]) or math.floor(time[1] / 3600) ~= tonumber(ARGV[4]) then
  return {0, now, 0}
end

if tonumber(redis.call('HGET', told, token) or -1) < part then
  for i = 9, 8 + 3 * counts, 3 do
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
  redis.call('ZREM', alive, gone)
end
redis.call('ZADD', alive, now, token)
redis.call('PEXPIRE', alive, ARGV[6])
redis.call('PEXPIRE', told, ARGV[6])

local result = {1, now, redis.call('ZCOUNT', alive, now - tonumber(ARGV[7]), '+inf')}
for i = 9 + 3 * counts, #ARGV, 2 do
  result[#result + 1] = tonumber(redis.call('HGET', keys[ARGV[i]], ARGV[i + 1]) or 0)
end
return result
