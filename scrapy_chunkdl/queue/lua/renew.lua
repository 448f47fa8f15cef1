-- Make leases last from now on again.
--
-- KEYS: 1 :leases, 2 :owner
-- ARGV: 1 token, 2 lease in ms, 3... ids
-- Result: the ids that are not the token's any more
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local mine = ARGV[1] .. ' '
local lost = {}
for i = 3, #ARGV do
  local owner = redis.call('HGET', KEYS[2], ARGV[i])
  if owner and string.sub(owner, 1, #mine) == mine then
    redis.call('ZADD', KEYS[1], until_ms, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
