-- Record files given up, and where told so end the item's lease: it waits in its records, or among the dead.
--
-- KEYS: 1 :leases, 2 :payload, 3 :tries, 4 :owner, 5 :calls, 6 :failed, 7 :dead
-- ARGV: 1 token, 2 id, 3 'keep' (the lease goes on), 'hold' or 'bury', 4 most records kept or 0 for all,
--       5... records, to each of which the item's payload is appended as its last field
-- Result: 1, or 0 when the id is not the token's: then nothing was recorded
-- Records of one delivery are made once: the same call again (its reply was lost) adds nothing.
local token, id, what, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local owner = redis.call('HGET', KEYS[4], id)
if not owner or string.sub(owner, 1, #token + 1) ~= token .. ' ' then return 0 end
local payload = redis.call('HGET', KEYS[2], id)
local field = token .. ' fail'
if what ~= 'keep' or redis.call('HGET', KEYS[5], field) ~= id then
  for i = 5, #ARGV do
    local record = ARGV[i]
    if what ~= 'bury' then record = string.sub(record, 1, -2) .. ', "item": ' .. payload .. '}' end
    redis.call('RPUSH', KEYS[6], record)
  end
  if most > 0 then redis.call('LTRIM', KEYS[6], -most, -1) end
end
if what == 'keep' then
  redis.call('HSET', KEYS[5], field, id)
  redis.call('EXPIRE', KEYS[5], 86400) -- what a killed process leaves behind
else
  if what == 'bury' then redis.call('RPUSH', KEYS[7], payload) end
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
end
return 1
