-- Give leased items back, to be claimed again after a delay. Their claim does not count: nobody died of it.
--
-- KEYS: 1 :leases, 2 :tries, 3 :owner, 4 :delayed, 5 :calls, 6 :past
-- ARGV: 1 token, 2 delay in ms, 3 'release', 'retry' (they were processed and nobody died: earlier deaths are forgotten)
--       or 'error' (the same, and one more error is counted), 4... ids
-- Result: the ids that were the token's; only those went back. Those of the token's last such call are among them again:
-- that call's reply was lost and it was sent once more.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local token, why = ARGV[1], ARGV[3]
local mine, field = token .. ' ', token .. ' back'
local back, last = {}, nil
redis.call('HDEL', KEYS[3], '') -- at its maxmemory Redis refuses what needs room, but not behind a write that needs none
for i = 4, #ARGV do
  local id = ARGV[i]
  local owner = redis.call('HGET', KEYS[3], id)
  if owner and string.sub(owner, 1, #mine) == mine then
    local story = redis.call('HGET', KEYS[6], id) or '0 0 0 0'
    local errors, most, is_refunded, rest = string.match(story, '^(%d+) (%d+) (%d) (.*)$')
    redis.call('ZADD', KEYS[4], due, id) -- first, and its owner last: refused in its midst, it is made again
    if why == 'release' then
      redis.call('HINCRBY', KEYS[2], id, is_refunded == '1' and 0 or -1)
    else
      redis.call('HSET', KEYS[2], id, 0)
    end
    if why == 'error' then errors = errors + 1 end
    story = table.concat({errors, most, 1, rest}, ' ')
    if story ~= '0 0 1 0' then redis.call('HSET', KEYS[6], id, story) end
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[3], id)
    back[#back + 1] = id
  else
    last = last or ' ' .. (redis.call('HGET', KEYS[5], field) or '') .. ' '
    if string.find(last, ' ' .. id .. ' ', 1, true) then back[#back + 1] = id end
  end
end
if #back > 0 then
  redis.call('HSET', KEYS[5], field, table.concat(back, ' '))
  redis.call('EXPIRE', KEYS[5], 86400) -- what a killed process leaves behind
end
return back
