-- Keep an item that never was in the list among the dead, with a record of why.
--
-- KEYS: 1 :dead, 2 :failed, 3 :calls
-- ARGV: 1 token, 2 id of this call, 3 item, 4 record
-- Result: 1, or 0 when this call was made before (its reply was lost and the command sent again)
local field = ARGV[1] .. ' keep'
if redis.call('HGET', KEYS[3], field) == ARGV[2] then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[3])
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[3], field, ARGV[2])
redis.call('EXPIRE', KEYS[3], 86400) -- what a killed process leaves behind
return 1
