-- Count the items in each state, at one moment: an item on its way from one to another is not missed.
--
-- KEYS: 1 waiting list, 2 :leases, 3 :delayed, 4 :dead, 5 :failed, 6 :parked, 7 :totals, 8... other waiting lists
-- Result: {waiting, leased, delayed, dead, failed, parked, the queue's life, see life.lua}
local waiting = redis.call('LLEN', KEYS[1])
for i = 8, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
return {
  waiting, redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]), redis.call('LLEN', KEYS[4]),
  redis.call('LLEN', KEYS[5]), redis.call('ZCARD', KEYS[6]), redis.call('HGET', KEYS[7], 'life')
}
