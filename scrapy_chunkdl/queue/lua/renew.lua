-- Make leases last from now on again, and note which claims bring bytes: those count for nothing.
--
-- KEYS: 1 :leases, 2 :owner, 3 :tries, 4 :past, a hash: id -> "errors, most bytes on disk in any delivery, 1 if this one
--       counts for nothing else 0, digest of the records made of it else 0", and its list if that is not the queue's own
-- ARGV: 1 token, 2 lease in ms, then for each item: id, bytes of its files on disk now, or 0
-- Result: the ids that are not the token's any more
-- Only bytes beyond those of all earlier deliveries are progress: a file that begins anew each time makes none.
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local mine = ARGV[1] .. ' '
local lost = {}

local function note_progress(id, bytes)
  local story = redis.call('HGET', KEYS[4], id) or '0 0 0 0'
  local errors, most, is_refunded, rest = string.match(story, '^(%d+) (%d+) (%d) (.*)$')
  if bytes <= tonumber(most) then return end
  if is_refunded == '0' then
    redis.call('HSET', KEYS[3], id, math.max(0, (tonumber(redis.call('HGET', KEYS[3], id)) or 1) - 1))
  end
  redis.call('HSET', KEYS[4], id, table.concat({errors, string.format('%.0f', bytes), 1, rest}, ' '))
end

for i = 3, #ARGV, 2 do
  local id, bytes = ARGV[i], tonumber(ARGV[i + 1])
  local owner = redis.call('HGET', KEYS[2], id)
  if owner and string.sub(owner, 1, #mine) == mine then
    redis.call('ZADD', KEYS[1], until_ms, id)
    if bytes > 0 then note_progress(id, bytes) end
  else
    lost[#lost + 1] = id
  end
end
return lost
