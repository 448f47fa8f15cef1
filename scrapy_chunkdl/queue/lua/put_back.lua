-- Put leased items behind all that wait, as if they had never been claimed.
--
-- KEYS: 1 waiting list, 2 :leases, 3 :payload, 4 :tries, 5 :owner
-- ARGV: 1 token, 2... ids
-- Result: the ids that went back. Those that are not the token's did not, nor did those delivered before: the list keeps
-- no count of deliveries.
local mine = ARGV[1] .. ' '
local back = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local owner = redis.call('HGET', KEYS[5], id)
  if owner and string.sub(owner, 1, #mine) == mine and redis.call('HGET', KEYS[4], id) == '1' then
    redis.call('RPUSH', KEYS[1], redis.call('HGET', KEYS[3], id))
    redis.call('ZREM', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
    redis.call('HDEL', KEYS[4], id)
    redis.call('HDEL', KEYS[5], id)
    back[#back + 1] = id
  end
end
return back
