-- Settle how many slots of each host a process may use, and how long each host is still to be left alone.
--
-- KEYS: one hash per host: process -> "slots held, 1 if it wants more else 0, ms since when it holds some or waits,
--       lease end in ms"; '' -> cool-down end in ms
-- ARGV: 1 token, 2 lease in ms, 3 limit per host, then for each host: slots in use, slots wanted, cool-down to set in ms
-- Result: {slots it may use, ms of cool-down left, 1 if another process wants more else 0, ...}, three for each host
--
-- What all hold together never passes the limit: nobody is given more than is free, and a process that may use fewer
-- slots than it does holds those in use until it has let go. While somebody wants more than it has, nobody may use more
-- than an equal share; where there are more processes than slots, they take turns of a quarter of the lease, the one
-- that has waited longest first. O(processes) for each host.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local token, lease, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local turn = lease / 4
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local result = {}

local function read(key)
  local mine, cool_end, others = nil, 0, {}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local process, value = fields[i], fields[i + 1]
    if process == '' then
      cool_end = tonumber(value)
    else
      local held, wants, since, lease_end = string.match(value, '^(%d+) (%d) (%d+) (%d+)$')
      local holding = {process = process, held = tonumber(held), wants = wants == '1', since = tonumber(since),
                       lease_end = tonumber(lease_end)}
      if holding.lease_end <= now then
        redis.call('HDEL', key, process) -- it died, or was frozen
      elseif process == token then
        mine = holding
      else
        others[#others + 1] = holding
      end
    end
  end
  return mine or {held = 0, since = now}, cool_end, others
end

for i, key in ipairs(KEYS) do
  local in_use, wanted, cool = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
  local mine, cool_end, others = read(key)
  local held_by_others, others_want, waiting, ahead, last_end = 0, false, 0, 0, 0
  for _, other in ipairs(others) do
    held_by_others = held_by_others + other.held
    others_want = others_want or other.wants
    last_end = math.max(last_end, other.lease_end)
    if other.held == 0 then
      waiting = waiting + 1
      if other.since < mine.since or other.since == mine.since and other.process < token then ahead = ahead + 1 end
    end
  end

  local most = limit - held_by_others
  local processes = #others + 1
  if processes > limit then
    if mine.held == 0 then
      most = most > ahead and 1 or 0
    elseif waiting > 0 and now - mine.since >= turn then
      most = 0
    elseif others_want then
      most = math.min(most, 1)
    end
  elseif others_want then
    most = math.min(most, math.floor(limit / processes))
  end
  local may_use = math.max(0, math.min(wanted, most))
  local held = math.max(may_use, math.min(in_use, mine.held))

  if cool > 0 then cool_end = math.max(cool_end, now + cool) end
  if cool_end > now then
    redis.call('HSET', key, '', cool_end)
    last_end = math.max(last_end, cool_end)
  else
    redis.call('HDEL', key, '')
  end
  if wanted > 0 or held > 0 then
    local since = (mine.held > 0) == (held > 0) and mine.since or now
    redis.call('HSET', key, token, table.concat({held, wanted > held and 1 or 0, since, now + lease}, ' '))
    last_end = math.max(last_end, now + lease)
  else
    redis.call('HDEL', key, token)
  end
  if last_end > now then redis.call('PEXPIREAT', key, last_end) end

  result[#result + 1] = may_use
  result[#result + 1] = math.max(0, cool_end - now)
  result[#result + 1] = others_want and 1 or 0
end
return result
