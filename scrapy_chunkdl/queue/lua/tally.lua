-- Add what a process counted since it told last to the totals of the queue, and to the hour's history: once.
--
-- KEYS: 1 :totals, a hash: name -> number; 2 :tallied, a hash: token -> "number of its last part, ms when it came";
--       3 the day's :history, a hash: hour of the day and a letter -> number
-- ARGV: 1 token, 2 number of this part, 3 the day that key 3 is of, in days since 1970, 4 s for which it is kept,
--       5 ms for which a token is remembered, then for each count: its name, what to add, its letter in the history or ''
-- Result: {1 if it counts, now or before, 0 if the day is another; the day by Redis' clock}
--
-- A part that is sent again, as its reply was lost, adds nothing. What a process told stays when it is gone.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local totals, tallied, history = unpack(KEYS)
local token, part, day = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local today = math.floor(time[1] / 86400)
if day ~= today then return {0, today} end

local known = redis.call('HGET', tallied, token)
if known and tonumber(string.match(known, '^%d+')) >= part then return {1, today} end
if not known then
  local others = redis.call('HGETALL', tallied)
  for i = 1, #others, 2 do
    if tonumber(string.match(others[i + 1], ' (%d+)$') or 0) + tonumber(ARGV[5]) <= now then
      redis.call('HDEL', tallied, others[i])
    end
  end
end
redis.call('HSET', tallied, token, string.format('%.0f %.0f', part, now))
redis.call('PEXPIRE', tallied, ARGV[5])
local hour = string.format('%02d', math.floor(time[1] / 3600) % 24)
local told = false
for i = 6, #ARGV, 3 do
  redis.pcall('HINCRBYFLOAT', totals, ARGV[i], ARGV[i + 1]) -- where somebody else wrote a word, that count alone is lost
  if ARGV[i + 2] ~= '' then
    redis.pcall('HINCRBY', history, hour .. ARGV[i + 2], math.floor(ARGV[i + 1]))
    told = true
  end
end
redis.call('EXPIRE', totals, ARGV[4])
if told then redis.call('EXPIRE', history, ARGV[4]) end
return {1, today}
