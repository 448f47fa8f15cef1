-- Tell everything a person may want to know, at one moment. O(leases + processes): not for the way of an item.
--
-- KEYS: 1 waiting list, 2 :leases, 3 :delayed, 4 :dead, 5 :failed, 6 :tries, 7 :owner, 8 :workers, 9 :control,
--       10 :parked, 11 :parked_hosts, 12... other waiting lists, in the order in which they are claimed
-- ARGV: 1 how many of the hosts to tell
-- Result: {now in ms, {waiting, leased, delayed, dead, failed, parked},
--          {id, end in ms, owner and since when in ms, deliveries, id, ...}, {token, its report as report.lua wrote it, ...},
--          {wish, value, ...}, {host that items are parked for, ...},
--          {how many wait in each list, the first key's last}}
local time = redis.call('TIME')
local leases = {}
for i, id_or_end in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')) do
  leases[#leases + 1] = id_or_end
  if i % 2 == 0 then
    local id = leases[#leases - 1]
    leases[#leases + 1] = redis.call('HGET', KEYS[7], id)
    leases[#leases + 1] = redis.call('HGET', KEYS[6], id)
  end
end
local waiting, in_each = 0, {}
for i = 12, #KEYS + 1 do
  in_each[#in_each + 1] = redis.call('LLEN', KEYS[i] or KEYS[1])
  waiting = waiting + in_each[#in_each]
end
local counts = {
  waiting, redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]), redis.call('LLEN', KEYS[4]),
  redis.call('LLEN', KEYS[5]), redis.call('ZCARD', KEYS[10])
}
return {time[1] * 1000 + math.floor(time[2] / 1000), counts, leases, redis.call('HGETALL', KEYS[8]), redis.call('HGETALL', KEYS[9]),
  redis.call('ZRANGE', KEYS[11], 0, ARGV[1] - 1), in_each}
