-- Lease up to n items: those whose lease ran out first, then those whose delay is over, those parked whose host may be
-- asked, then the oldest waiting of the first list.
--
-- KEYS: 1 waiting list, 2 :leases, 3 :payload, 4 :tries, 5 :owner, 6 :delayed, 7 :dead, 8 :control, 9 :past,
--       10 :totals, where "taken" counts what was taken from the front of the list (mark.lua),
--       and "taken LIST" from another, 11 :parked, 12 :parked_hosts, see park.lua,
--       13... lists that come before the first key, the very first first
-- ARGV: 1 n, 2 lease in ms, 3 token of the claimer, 4 id prefix, new for each claim, 5 most claims that count,
--       6 which suspects may come: 'due', 'overdue' (those due for a whole lease) or 'none',
--       7 most waiting items that may be parked on the way, 8... fields of items, whose URLs are of hosts they need
-- Result: {items moved to :dead, items parked on the way, id, deliveries, errors, payload, id, ...}
--
-- :tries counts the claims of an item that came to nothing and the one it has now. A claim whose owner gave the item
-- back, or told that it brought bytes, does not count, so what is left counts processes that died. An item with such a
-- claim behind it is a suspect, and is the only one of its batch; where it may not come now, it waits.
-- Of a host that is tried again one parked item comes, and no other for a lease; of one that may be asked again all come
-- in turn, but only half of a batch while others wait. A host's parked items are not looked at before.
-- Every delivery gets a new id, prefix:1, prefix:2, ...: a former owner's id means nothing any more, and the same
-- claim sent again (the reply was lost) finds its own ids and gives what is still leased of them. O(n), whatever waits.
-- Of several lists the first that has items is taken from, but every tenth item comes from one of those behind it, in
-- turn: so none starves. An item of another list than the first key has its name at the end of its story in :past.
-- Nothing is given where people asked that nothing be claimed, by all or by this process.
-- A waiting item that says in plain text that it needs a host for which others are parked is parked with them, for 10 µs
-- instead of the way to a process and back: ten times as many of one host cost those of others nothing. One that says it
-- otherwise comes, and is parked by whom it came to. Of a host's name what follows an @ is why it is left alone.
-- An item is leased before it is taken from where it was: refused in its midst, a claim loses nothing.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local waiting, leases, payloads, tries, owners, delayed, dead, control, past, totals, parked, hosts = unpack(KEYS)
local n, lease, token, prefix, most = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = token .. ' ' .. now
local result = {0, 0}
if n < 1 then return result end
redis.call('HDEL', owners, '') -- at its maxmemory Redis refuses what needs room, but not behind a write that needs none

local function errors_of(story) return tonumber(string.match(story or '', '^%d+') or 0) end

local function tell(id, deliveries, story, payload)
  result[#result + 1] = id
  result[#result + 1] = deliveries
  result[#result + 1] = errors_of(story)
  result[#result + 1] = payload
end

local ids = {}
for i = 1, n do ids[i] = prefix .. ':' .. i end
local made_before = false
for i, payload in ipairs(redis.call('HMGET', payloads, unpack(ids))) do
  if payload then
    made_before = true
    local holder = redis.call('HGET', owners, ids[i])
    if holder and string.sub(holder, 1, #token + 1) == token .. ' ' then
      redis.call('ZADD', leases, now + lease, ids[i])
      tell(ids[i], tonumber(redis.call('HGET', tries, ids[i])) or 1, redis.call('HGET', past, ids[i]), payload)
    end
  end
end
if made_before then return result end
local paused = redis.call('HMGET', control, 'paused', 'paused ' .. token)
if paused[1] or paused[2] then return result end

local function waits_somewhere()
  for i = 13, #KEYS do
    if redis.call('LLEN', KEYS[i]) > 0 then return true end
  end
  return redis.call('LLEN', waiting) > 0
end

local leased = 0
local function deliver(payload, deliveries, story)
  leased = leased + 1
  local id = ids[leased]
  redis.call('ZADD', leases, now + lease, id)
  redis.call('HSET', payloads, id, payload)
  redis.call('HSET', tries, id, deliveries)
  if story then redis.call('HSET', past, id, (string.gsub(story, '^(%d+ %d+) %d', '%1 0'))) end
  redis.call('HSET', owners, id, owner)
  tell(id, deliveries, story, payload)
end

local function take(found)
  redis.call('ZREM', found.due, found.member or found.id)
  redis.call('HDEL', payloads, found.id)
  redis.call('HDEL', tries, found.id)
  redis.call('HDEL', owners, found.id)
  if found.story then redis.call('HDEL', past, found.id) end
end

local function unpark(host, most)
  local members = redis.call('ZRANGEBYLEX', parked, '[' .. host .. ' ', '(' .. host .. '!', 'LIMIT', 0, most)
  local found = {}
  for _, member in ipairs(members) do
    local id = string.match(member, '(%S+)$')
    local one = {due = parked, member = member, id = id}
    one.payload, one.story = redis.call('HGET', payloads, id), redis.call('HGET', past, id)
    one.tries = math.max(0, tonumber(redis.call('HGET', tries, id)) or 0)
    if one.tries > 0 and one.payload then
      redis.call('ZADD', delayed, now, id) -- a suspect: it comes alone, one day
      redis.call('ZREM', parked, member)
    else
      found[#found + 1] = one
    end
  end
  return found, #members
end

local function take_parked(most)
  local due = redis.call('ZRANGEBYSCORE', hosts, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  if #due == 0 then return end
  if waits_somewhere() then most = math.ceil(most / 2) end
  for i = 1, #due, 2 do
    if most < 1 then return end
    local host, is_free = due[i], tonumber(due[i + 1]) <= 0
    local found, looked_at = unpark(host, is_free and most or 1)
    if looked_at < (is_free and most or 1) then
      redis.call('ZREM', hosts, host)
    elseif not is_free then
      redis.call('ZADD', hosts, now + lease, host)
    end
    for _, one in ipairs(found) do
      if one.payload then deliver(one.payload, 1, one.story) end
      take(one)
    end
    most = most - looked_at
  end
end

local function taken_of(list) return list == waiting and 'taken' or 'taken ' .. list end

-- Return the lists that may have items, in their order, and the number of the next item of several: every tenth is for
-- those behind the first.
local function lists_to_take_from()
  if #KEYS == 12 then return {waiting}, 0 end
  local lists, turn = {}, 0
  for i = 13, #KEYS + 1 do
    local list = KEYS[i] or waiting
    turn = turn + (tonumber(redis.call('HGET', totals, taken_of(list))) or 0)
    if redis.call('LLEN', list) > 0 then lists[#lists + 1] = list end
  end
  return lists, turn
end

local LARGEST_LOOKED_INTO = 16384 -- bytes
local PORTS = {http = ':80', https = ':443'}
local left_alone, patterns = {}, {}

-- Note the hosts whose items are passed by. False where there is none.
local function note_left_alone()
  if #ARGV < 8 then return false end
  local names = redis.call('ZRANGEBYSCORE', hosts, '(' .. now, '+inf', 'LIMIT', 0, 1000)
  for _, name in ipairs(names) do left_alone[string.match(name, '^[^@]+')] = name end
  for i = 8, #ARGV do
    patterns[#patterns + 1] = '"' .. string.gsub(ARGV[i], '%p', '%%%0') .. '"%s*:%s*%[?%s*"(https?)://([^/?#"\\]+)'
  end
  return #names > 0
end

-- Return what an item is parked under, nil for one that may come, or of which a look does not tell. Mirrors are asked.
local function parked_under(payload)
  if #payload > LARGEST_LOOKED_INTO or string.find(payload, '"mirrors"', 1, true) then return nil end
  for _, pattern in ipairs(patterns) do
    for scheme, place in string.gmatch(payload, pattern) do
      local host = string.lower(string.match(place, '[^@]*$'))
      if not string.find(host, '[^:]:%d+$') or string.sub(host, -1) == ']' then host = host .. PORTS[scheme] end
      host = string.gsub(host, '^%[(.*)%]', '%1') -- an IPv6 address
      if left_alone[host] then return left_alone[host] end
    end
  end
end

local to_payloads, to_parked = {}, {}

local function park_all()
  if #to_parked == 0 then return end
  redis.call('HSET', payloads, unpack(to_payloads))
  redis.call('ZADD', parked, unpack(to_parked))
  to_payloads, to_parked = {}, {}
end

local function pass_by(payload, host, story)
  result[2] = result[2] + 1
  local id = prefix .. ':p' .. result[2]
  to_payloads[#to_payloads + 1], to_payloads[#to_payloads + 2] = id, payload
  to_parked[#to_parked + 1] = 0
  to_parked[#to_parked + 1] = string.format('%s %013.0f %05d %s', host, now, result[2], id)
  if story then redis.call('HSET', past, id, story) end
  if #to_parked == 200 then park_all() end
end

-- Where many may be passed by they are read together: one command for each takes as long as all else.
local read_of = {}
local function trim(list)
  local read = read_of[list]
  if read and read.at > 0 then redis.call('LTRIM', list, read.at, -1) end
  read_of[list] = nil
end

local function next_of(list, together)
  if not together then return redis.call('LINDEX', list, 0) end
  if read_of[list] and read_of[list].at == #read_of[list] then
    park_all()
    trim(list)
  end
  local read = read_of[list]
  if not read then
    read = redis.call('LRANGE', list, 0, 49)
    read.at, read_of[list] = 0, read
  end
  if #read == 0 then return nil end
  read.at = read.at + 1
  return read[read.at]
end

local function take_waiting(room)
  local lists, turn = lists_to_take_from()
  local taken, passes_by = {}, note_left_alone()
  while room > 0 and #lists > 0 do
    local at = 1
    if #lists > 1 and turn % 10 == 9 then at = 2 + math.floor(turn / 10) % (#lists - 1) end
    local list = lists[at]
    local payload = next_of(list, passes_by)
    if payload then
      local story = list ~= waiting and '0 0 0 0 ' .. list or nil
      local host = passes_by and parked_under(payload)
      if host then
        pass_by(payload, host, story)
        if result[2] == tonumber(ARGV[7]) then room = 0 end
      else
        deliver(payload, 1, story)
        room = room - 1
      end
      if not passes_by then redis.call('LPOP', list) end
      taken[list] = (taken[list] or 0) + 1
      turn = turn + 1
    else
      table.remove(lists, at)
    end
  end
  park_all()
  for list, number in pairs(taken) do
    trim(list)
    redis.call('HINCRBY', totals, taken_of(list), number)
  end
end

local looked_at, others, suspect = 0, {}, nil
for _, due in ipairs({leases, delayed}) do
  local over = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'WITHSCORES', 'LIMIT', 0, n - looked_at)
  looked_at = looked_at + #over / 2
  for i = 1, #over, 2 do
    local id = over[i]
    local found = {
      due = due, id = id, payload = redis.call('HGET', payloads, id), story = redis.call('HGET', past, id),
      tries = math.max(0, tonumber(redis.call('HGET', tries, id)) or 0)
    }
    local is_overdue = tonumber(over[i + 1]) <= now - lease
    if not found.payload then
      take(found) -- gone only where Redis may evict keys
    elseif found.tries >= most then
      redis.call('RPUSH', dead, found.payload)
      take(found)
      result[1] = result[1] + 1
    elseif found.tries == 0 then
      others[#others + 1] = found
    elseif not suspect and (ARGV[6] == 'due' or ARGV[6] == 'overdue' and is_overdue) then
      suspect = found
    end
  end
end
if suspect then others = {suspect} end
for _, found in ipairs(others) do
  deliver(found.payload, found.tries + 1, found.story)
  take(found)
end
if suspect then return result end
take_parked(n - leased - result[1])
take_waiting(n - leased - result[1])
return result
