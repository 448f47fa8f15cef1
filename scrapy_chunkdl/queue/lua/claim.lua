-- Lease up to n items: those whose lease ran out first, then those whose delay is over, then the oldest waiting.
--
-- KEYS: 1 waiting list, 2 :leases, 3 :payload, 4 :tries, 5 :owner, 6 :delayed, 7 :dead, 8 :control
-- ARGV: 1 n, 2 lease in ms, 3 token of the claimer, 4 id prefix, new for each claim, 5 most deliveries
-- Result: {items moved to :dead, id, deliveries, payload, id, deliveries, payload, ...}
--
-- Every delivery gets a new id, prefix:1, prefix:2, ...: a former owner's id means nothing any more, and the same
-- claim sent again (the reply was lost) finds its own ids and gives what is still leased of them. O(n), whatever waits.
-- Nothing is given where people asked that nothing be claimed, by all or by this process.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local waiting, leases, payloads, tries, owners, delayed, dead = unpack(KEYS)
local n, lease, token, prefix, most = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = token .. ' ' .. now
local result = {0}
if n < 1 then return result end

local ids = {}
for i = 1, n do ids[i] = prefix .. ':' .. i end
local made_before = false
for i, payload in ipairs(redis.call('HMGET', payloads, unpack(ids))) do
  if payload then
    made_before = true
    local holder = redis.call('HGET', owners, ids[i])
    if holder and string.sub(holder, 1, #token + 1) == token .. ' ' then
      redis.call('ZADD', leases, now + lease, ids[i])
      result[#result + 1] = ids[i]
      result[#result + 1] = tonumber(redis.call('HGET', tries, ids[i]))
      result[#result + 1] = payload
    end
  end
end
if made_before then return result end
local paused = redis.call('HMGET', KEYS[8], 'paused', 'paused ' .. token)
if paused[1] or paused[2] then return result end

local leased = 0
local function deliver(payload, deliveries)
  if deliveries > most then
    redis.call('RPUSH', dead, payload)
    result[1] = result[1] + 1
    return
  end
  leased = leased + 1
  local id = ids[leased]
  redis.call('ZADD', leases, now + lease, id)
  redis.call('HSET', payloads, id, payload)
  redis.call('HSET', tries, id, deliveries)
  redis.call('HSET', owners, id, owner)
  result[#result + 1] = id
  result[#result + 1] = deliveries
  result[#result + 1] = payload
end

local looked_at = 0
for _, due in ipairs({leases, delayed}) do
  local over = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, n - looked_at)
  looked_at = looked_at + #over
  for _, id in ipairs(over) do
    local payload = redis.call('HGET', payloads, id)
    local deliveries = (tonumber(redis.call('HGET', tries, id)) or 0) + 1
    redis.call('ZREM', due, id)
    redis.call('HDEL', payloads, id)
    redis.call('HDEL', tries, id)
    redis.call('HDEL', owners, id)
    if payload then deliver(payload, deliveries) end -- gone only where Redis may evict keys
  end
end
for _ = looked_at + 1, n do
  local payload = redis.call('LPOP', waiting)
  if not payload then break end
  deliver(payload, 1)
end
return result
