-- Record files given up, and where told so end the item's lease: it waits in its records, or among the dead.
--
-- KEYS: 1 :leases, 2 :payload, 3 :tries, 4 :owner, 5 :failed, 6 :dead
-- ARGV: 1 token, 2 id, 3 'keep' (the lease goes on), 'hold' or 'bury', 4 most records kept or 0 for all,
--       5... records, to each of which the item's payload is appended as its last field
-- Result: 1, or 0 when the id is not the token's: then nothing was recorded
if redis.call('HGET', KEYS[4], ARGV[2]) ~= ARGV[1] then return 0 end
local payload = redis.call('HGET', KEYS[2], ARGV[2])
for i = 5, #ARGV do
  local record = ARGV[i]
  if ARGV[3] ~= 'bury' then record = string.sub(record, 1, -2) .. ', "item": ' .. payload .. '}' end
  redis.call('RPUSH', KEYS[5], record)
end
if tonumber(ARGV[4]) > 0 then redis.call('LTRIM', KEYS[5], -tonumber(ARGV[4]), -1) end
if ARGV[3] ~= 'keep' then
  if ARGV[3] == 'bury' then redis.call('RPUSH', KEYS[6], payload) end
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[2], ARGV[2])
  redis.call('HDEL', KEYS[3], ARGV[2])
  redis.call('HDEL', KEYS[4], ARGV[2])
end
return 1
