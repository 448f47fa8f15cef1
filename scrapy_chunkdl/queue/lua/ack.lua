-- Forget items that are done, and push what became of them where that is wanted, in the same step.
--
-- KEYS: 1 :leases, 2 :payload, 3 :tries, 4 :owner, 5 done list (or :owner again, unused)
-- ARGV: 1 token, then for each item: id, 1 if a finished item follows else 0, the finished item or ''
-- Result: the ids that were the token's; only those were forgotten and pushed
local acked = {}
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  if redis.call('HGET', KEYS[4], id) == ARGV[1] then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
    redis.call('HDEL', KEYS[4], id)
    if ARGV[i + 1] == '1' then redis.call('RPUSH', KEYS[5], ARGV[i + 2]) end
    acked[#acked + 1] = id
  end
end
return acked
