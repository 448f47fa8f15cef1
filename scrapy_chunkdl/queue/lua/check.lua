-- See whether the queue can work here: try each command of its scripts on a key of its own, and look at the queue's keys.
-- A script that is refused in its midst, by an ACL or a renamed command, has done half of its work.
--
-- KEYS: 1 a key to try on, 2... keys of the queue
-- Result: the types of KEYS 2..., or the first error, with the command it is of
local key, first = KEYS[1], nil
local commands = {
  {'DEL', key}, {'RPUSH', key, 'a'}, {'EXPIRE', key, 60}, {'PEXPIRE', key, 60000}, {'LPUSH', key, 'a'}, {'LLEN', key},
  {'LINDEX', key, 0}, {'LRANGE', key, 0, 0}, {'LTRIM', key, 0, 1}, {'LPOP', key}, {'PTTL', key},
  {'EXISTS', key}, {'DEL', key},
  {'HSET', key, 'a', 1}, {'EXPIRE', key, 60}, {'HGET', key, 'a'}, {'HMGET', key, 'a'}, {'HGETALL', key}, {'HKEYS', key},
  {'HLEN', key}, {'HEXISTS', key, 'a'}, {'HINCRBY', key, 'a', 1}, {'HINCRBYFLOAT', key, 'a', 1}, {'HDEL', key, 'b'},
  {'PEXPIREAT', key, '9999999999999'}, {'DEL', key},
  {'ZADD', key, 1, 'a'}, {'EXPIRE', key, 60}, {'ZCARD', key}, {'ZCOUNT', key, 0, 1}, {'ZRANGE', key, 0, 0},
  {'ZINCRBY', key, 1, 'a'}, {'ZRANGEBYSCORE', key, 0, 1}, {'ZRANGEBYLEX', key, '-', '+'}, {'ZSCORE', key, 'a'}, {'ZREM', key, 'b'},
  {'DEL', key},
  {'TIME'}, -- Redis 5 takes no writes behind it
}
for _, command in ipairs(commands) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then first = first or command[1] .. ': ' .. answer.err end
end
if first then return {err = (string.find(first, 'nknown') and 'ERR ' or 'NOPERM ') .. first} end
local types = {}
for i = 2, #KEYS do types[#types + 1] = redis.call('TYPE', KEYS[i]).ok end
return types
