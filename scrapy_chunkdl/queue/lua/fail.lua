-- Record files given up, and where told so end the item's lease: it waits in its records, or among the dead.
--
-- KEYS: 1 :leases, 2 :payload, 3 :tries, 4 :owner, 5 :calls, 6 :failed, 7 :dead, 8 :past,
--       9 :parts of the token, a list of records that wait for the last of their item
-- ARGV: 1 token, 2 id, 3 'part' (there are more records), 'keep' (the lease goes on), 'hold' or 'bury',
--       4 size and number of this part of the records, 5 most records kept, 6 most bytes kept, each 0 for all,
--       7 digest of what is recorded, 8... records
-- Result: {1, or 0 when the id is not the token's: then nothing was recorded; old records dropped to make room}
--
-- Records of an item stand side by side, however many calls bring them. The item goes with the last record alone, which is the last to be dropped; the others have the same delivery.
-- The same call again (its reply was lost) adds nothing, nor does a later delivery that tells the same of the item.
-- Records of items that are held are their only place: they are never dropped.
local leases, payloads, tries, owners, calls, failed, dead, past, parts = unpack(KEYS)
local token, id, what, part = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local most, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local digest = ARGV[7]
local looks = 1000 -- old records looked at in one call

local function remember(verb, value)
  redis.call('HSET', calls, token .. ' ' .. verb, value)
  redis.call('EXPIRE', calls, 86400) -- what a killed process leaves behind
end

local function is_over(count, bytes)
  return most > 0 and count > most or most_bytes > 0 and bytes > most_bytes
end

local function make_room(added)
  local count, bytes, dropped, kept = redis.call('LLEN', failed), 0, 0, {}
  if most_bytes > 0 and (count % 10 < added or count <= 10) then
    local size = redis.pcall('MEMORY', 'USAGE', failed, 'SAMPLES', 10000) -- exact for as many nodes of some KiB
    if type(size) == 'number' then bytes = size end
  end
  while is_over(count, bytes) and dropped + #kept < looks do
    local oldest = redis.call('LPOP', failed)
    if not oldest then break end
    if string.find(oldest, '"went_on": true', 1, true) then
      dropped, count, bytes = dropped + 1, count - 1, bytes - #oldest
    else
      kept[#kept + 1] = oldest
    end
  end
  for i = #kept, 1, -1 do redis.call('LPUSH', failed, kept[i]) end
  return dropped
end

local owner = redis.call('HGET', owners, id)
if not owner or string.sub(owner, 1, #token + 1) ~= token .. ' ' then
  local was_made = (what == 'hold' or what == 'bury') and redis.call('HGET', calls, token .. ' end') == id
  return {was_made and 1 or 0, 0}
end
local payload = redis.call('HGET', payloads, id)
local story = redis.call('HGET', past, id) or '0 0 0 0'
local before, recorded, list = string.match(story, '^(%d+ %d+ %d) (%w+)(.*)$')
local dropped = 0
if recorded ~= digest and redis.call('HGET', calls, token .. ' fail') ~= id .. ' ' .. part then
  if string.find(part, '%.0$') then redis.call('DEL', parts) end -- of an item whose last part never came
  local records = what == 'part' and {} or redis.call('LRANGE', parts, 0, -1)
  for i = 8, #ARGV do records[#records + 1] = ARGV[i] end
  if #records > 0 and (what == 'keep' or what == 'hold') then
    local from = list ~= '' and ', "list": ' .. cjson.encode(string.sub(list, 2)) or ''
    records[#records] = string.sub(records[#records], 1, -2) .. from .. ', "item": ' .. payload .. '}'
  end
  for _, record in ipairs(records) do redis.call('RPUSH', what == 'part' and parts or failed, record) end
  if what == 'part' then
    redis.call('EXPIRE', parts, 86400)
  else
    redis.call('DEL', parts)
    dropped = make_room(#records)
  end
end
if what == 'part' or what == 'keep' then
  remember('fail', id .. ' ' .. part)
  if what == 'keep' then redis.call('HSET', past, id, before .. ' ' .. digest .. list) end
else
  if what == 'bury' then redis.call('RPUSH', dead, payload) end
  redis.call('ZREM', leases, id)
  redis.call('HDEL', payloads, id)
  redis.call('HDEL', tries, id)
  redis.call('HDEL', owners, id)
  redis.call('HDEL', past, id)
  remember('end', id)
end
return {1, dropped}
