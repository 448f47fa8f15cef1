-- Tell the queue's life, and lease anew what a process holds of one that is over: its data were deleted.
--
-- KEYS: 1 :totals, 2 :leases, 3 :payload, 4 :tries, 5 :owner, 6 :past
-- ARGV: 1 token, 2 lease in ms, 3 the life to begin where there is none, then for each item: id, deliveries, errors, payload
-- Result: the life. An item that is there by now, as the same call was made before, is left as it is.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local totals, leases, payloads, tries, owners, past = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HDEL', owners, '') -- at its maxmemory Redis refuses what needs room, but not behind a write that needs none
local life = redis.call('HGET', totals, 'life')
if not life then
  life = ARGV[3]
  redis.call('HSET', totals, 'life', life)
end
for i = 4, #ARGV, 4 do
  local id, deliveries, errors, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('HEXISTS', payloads, id) == 0 then
    redis.call('ZADD', leases, now + tonumber(ARGV[2]), id)
    redis.call('HSET', payloads, id, payload)
    redis.call('HSET', tries, id, deliveries)
    if errors ~= '0' then redis.call('HSET', past, id, errors .. ' 0 0 0') end
    redis.call('HSET', owners, id, ARGV[1] .. ' ' .. now)
  end
end
return life
