-- Forget items that are done, and push what became of them where that is wanted, in the same step.
--
-- KEYS: 1 :leases, 2 :payload, 3 :tries, 4 :owner, 5 :calls, 6 :past, 7 done list (or :owner again, unused)
-- ARGV: 1 token, then for each item: id, 1 if a finished item follows else 0, the finished item or ''
-- Result: the ids that were the token's; only those were forgotten and pushed. An id of the token's last ack counts
-- again without being pushed again: that ack's reply was lost and it was sent once more.
-- All are pushed before any is forgotten: where the done list takes nothing, it is no list, each keeps its lease.
local token = ARGV[1]
local mine, field = token .. ' ', token .. ' ack'
local acked, forgotten, last = {}, {}, nil
redis.call('EXPIRE', KEYS[5], 86400) -- a write that needs no room: those behind it are not refused at maxmemory, and make some
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  local owner = redis.call('HGET', KEYS[4], id)
  if owner and string.sub(owner, 1, #mine) == mine then
    if ARGV[i + 1] == '1' then redis.call('RPUSH', KEYS[7], ARGV[i + 2]) end
    forgotten[#forgotten + 1] = id
    acked[#acked + 1] = id
  else
    last = last or ' ' .. (redis.call('HGET', KEYS[5], field) or '') .. ' '
    if string.find(last, ' ' .. id .. ' ', 1, true) then acked[#acked + 1] = id end
  end
end
for _, id in ipairs(forgotten) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
  redis.call('HDEL', KEYS[6], id)
end
if #acked > 0 then
  redis.call('HSET', KEYS[5], field, table.concat(acked, ' '))
  redis.call('EXPIRE', KEYS[5], 86400) -- what a killed process leaves behind
end
return acked
