-- Append items to the list, once for each push number of a process.
--
-- KEYS: 1 waiting list, 2 :calls
-- ARGV: 1 token, 2 push number, 3... items
-- Result: 1, or 0 when this push was made before (its reply was lost and the command sent again)
local field = ARGV[1] .. ' push'
if redis.call('HGET', KEYS[2], field) == ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], field, '') -- refused in its midst, a push would be made again, each time with one more copy
for i = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('HSET', KEYS[2], field, ARGV[2])
redis.call('EXPIRE', KEYS[2], 86400) -- what a killed process leaves behind
return 1
