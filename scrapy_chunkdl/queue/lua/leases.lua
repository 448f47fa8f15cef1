-- Tell who holds which item, the lease that ends first coming first. O(leases): for people, not for the way of an item.
--
-- KEYS: 1 :leases, 2 :tries, 3 :owner
-- Result: {now in ms, id, end in ms, owner and since when in ms, deliveries, id, ...}
local time = redis.call('TIME')
local result = {time[1] * 1000 + math.floor(time[2] / 1000)}
for i, id_or_end in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')) do
  result[#result + 1] = id_or_end
  if i % 2 == 0 then
    local id = result[#result - 1]
    result[#result + 1] = redis.call('HGET', KEYS[3], id)
    result[#result + 1] = redis.call('HGET', KEYS[2], id)
  end
end
return result
