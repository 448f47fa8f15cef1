-- Settle what a process may do at hosts that others use, too: connections, bytes per second, moments to begin requests.
--
-- KEYS: of each what is settled, see below
-- ARGV: 1 token, 2 lease of connections in ms, then for each key six: its kind (c, r, s) and what its kind takes
-- Result: three numbers for each key
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local token, lease = ARGV[1], tonumber(ARGV[2])
local turn = lease / 4
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Connections. The key is a hash: process -> "slots held, 1 if it wants more else 0, ms since when it holds some or
-- waits, lease end in ms"; '' -> cool-down end in ms. Takes: limit, slots in use, slots wanted, cool-down to set in ms.
-- Gives: slots it may use, ms of cool-down left, 1 if another process wants more else 0.
--
-- What all hold together never passes the limit: nobody is given more than is free, and a process that may use fewer
-- slots than it does holds those in use until it has let go. While somebody wants more than it has, nobody may use more
-- than an equal share; where there are more processes than slots, they take turns of a quarter of the lease, the one
-- that has waited longest first. O(processes) for each host.
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

local function connections(key, limit, in_use, wanted, cool)
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

  return {may_use, math.max(0, cool_end - now), others_want and 1 or 0}
end

-- Return what each of those that want so much gets of a limit, at most, and what all leave of it for each (max-min).
local function level(wants, limit)
  table.sort(wants)
  local left = limit
  for i, want in ipairs(wants) do
    local equal = left / (#wants - i + 1)
    if want >= equal then return equal, 0 end
    left = left - want
  end
  return limit, left / #wants
end

-- Bytes per second. The key is a hash: process -> "what it may use, what it wants, lease end in ms".
-- Takes: limit, what it may use as it knows, what it wants, lease in ms. Gives: what it may use.
--
-- Nobody is given more than the others leave, so all together never pass the limit; who may use more than is its due
-- lets go of it when it settles next, which all do four times a second. A process that is not known, as Redis was away
-- for longer than the lease, goes on with what it says it has, so that the first one back does not take all.
local function rates(key, limit, held, wanted, rate_lease)
  local wants, given, last_end, is_known = {wanted}, 0, 0, false
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local may_use, wants_of, lease_end = string.match(fields[i + 1], '^(%d+) (%d+) (%d+)$')
    if fields[i] == token then
      is_known = may_use ~= nil
    elseif not may_use or tonumber(lease_end) <= now then
      redis.call('HDEL', key, fields[i]) -- it died, or was frozen
    else
      wants[#wants + 1], given, last_end = tonumber(wants_of), given + may_use, math.max(last_end, lease_end)
    end
  end
  local most, more = level(wants, limit)
  local due = math.min(wanted, most) + (wanted > 0 and more or 0)
  if not is_known and held > 0 then due = math.min(due, held) end
  local may_use = math.floor(math.max(0, math.min(due, limit - given)))
  if wanted > 0 then
    last_end = math.max(last_end, now + rate_lease)
    redis.call('HSET', key, token, string.format('%.0f %.0f %.0f', may_use, wanted, now + rate_lease))
  else
    redis.call('HDEL', key, token)
  end
  if last_end > now then redis.call('PEXPIREAT', key, string.format('%.0f', last_end)) end
  return {may_use, 0, 0}
end

-- Moments to begin requests. The key is a hash: process -> "moments it has and wants, ms when that is forgotten"; '' ->
-- us of the next moment nobody has. Takes: us between two moments, how many it has still to come, how many it wants
-- besides, ms for which moments are handed out ahead, ms until what it wants is forgotten. Gives: us until the first of
-- its new moments, how many these are, delay apart, and how many processes want some.
--
-- Each may have its part of those of the time ahead (max-min), and at least one.
local function starts(key, delay, to_come, wanted, ahead, forgotten)
  local now_us = time[1] * 1000000 + time[2]
  local wants, next_at = {to_come + wanted}, now_us
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    if fields[i] == '' then
      next_at = math.max(now_us, tonumber(fields[i + 1]))
    elseif fields[i] ~= token then
      local wants_of, last = string.match(fields[i + 1], '^(%d+) (%d+)$')
      if not wants_of or tonumber(last) <= now then
        redis.call('HDEL', key, fields[i])
      else
        wants[#wants + 1] = tonumber(wants_of)
      end
    end
  end
  local processes, all = #wants, math.max(#wants, math.floor(ahead * 1000 / delay))
  next_at = math.min(next_at, now_us + 10 * (all + processes) * delay) -- else Redis' clock was set back
  local most, more = level(wants, all)
  local may_have = math.max(1, math.ceil(math.min(to_come + wanted, most + more)))
  local count = math.max(0, math.min(wanted, may_have - to_come))
  local first = next_at - now_us
  next_at = next_at + count * delay
  redis.call('HSET', key, '', string.format('%.0f', next_at), token, string.format('%.0f %.0f', to_come + wanted, now + forgotten))
  redis.call('PEXPIREAT', key, string.format('%.0f', math.max(next_at / 1000, now + forgotten)))
  return {first, count, processes}
end

local settle = {c = connections, r = rates, s = starts}
local result = {}
for i, key in ipairs(KEYS) do
  local told = {}
  for n = 1, 5 do told[n] = tonumber(ARGV[6 * i - 3 + n]) end
  for _, number in ipairs(settle[ARGV[6 * i - 3]](key, unpack(told))) do result[#result + 1] = math.floor(number) end
end
return result
