-- Give leased items back, to be claimed again after a delay.
--
-- KEYS: 1 :leases, 2 :tries, 3 :owner, 4 :delayed
-- ARGV: 1 token, 2 delay in ms, 3 1 to not count this delivery else 0, 4... ids
-- Result: the ids that were the token's; only those went back
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local mine = ARGV[1] .. ' '
local back = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local owner = redis.call('HGET', KEYS[3], id)
  if owner and string.sub(owner, 1, #mine) == mine then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[3], id)
    redis.call('ZADD', KEYS[4], due, id)
    if ARGV[3] == '1' then redis.call('HINCRBY', KEYS[2], id, -1) end
    back[#back + 1] = id
  end
end
return back
