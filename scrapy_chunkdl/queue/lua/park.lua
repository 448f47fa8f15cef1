-- Set leased items aside that need a host which is ill. Their claim does not count, and claims pass them by.
--
-- KEYS: 1 :leases, 2 :tries, 3 :owner, 4 :calls, 5 :past, 6 :parked, a sorted set whose members are
--       "host, ms when, number, id" and sort by host and age; 7 :parked_hosts, host -> ms when one of them may come, 0: all
-- ARGV: 1 token, 2 host, 3 ms until one of them may come, 4... ids
-- Who parks may know less than who found out before it that the host is tried soon: a time that is sooner stays.
-- Result: the ids that were the token's, or were in its last such call: its reply was lost and it was sent once more.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local leases, tries, owners, calls, past, parked, hosts = unpack(KEYS)
local token, host = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine, field = token .. ' ', token .. ' park'
local back, last = {}, nil
redis.call('HDEL', owners, '') -- at its maxmemory Redis refuses what needs room, but not behind a write that needs none
for i = 4, #ARGV do
  local id = ARGV[i]
  local owner = redis.call('HGET', owners, id)
  if owner and string.sub(owner, 1, #mine) == mine then
    local story = redis.call('HGET', past, id) or '0 0 0 0'
    local errors, most, is_refunded, rest = string.match(story, '^(%d+) (%d+) (%d) (.*)$')
    if #back == 0 then
      local due, known = now + tonumber(ARGV[3]), tonumber(redis.call('ZSCORE', hosts, host) or 0)
      if known == 0 or due < known then redis.call('ZADD', hosts, due, host) end
    end
    redis.call('ZADD', parked, 0, string.format('%s %013.0f %05d %s', host, now, i, id)) -- first, as in retry.lua
    redis.call('HINCRBY', tries, id, is_refunded == '1' and 0 or -1)
    story = table.concat({errors, most, 1, rest}, ' ')
    if story ~= '0 0 1 0' then redis.call('HSET', past, id, story) end
    redis.call('ZREM', leases, id)
    redis.call('HDEL', owners, id)
    back[#back + 1] = id
  else
    last = last or ' ' .. (redis.call('HGET', calls, field) or '') .. ' '
    if string.find(last, ' ' .. id .. ' ', 1, true) then back[#back + 1] = id end
  end
end
if #back > 0 then
  redis.call('HSET', calls, field, table.concat(back, ' '))
  redis.call('EXPIRE', calls, 86400) -- what a killed process leaves behind
end
return back
