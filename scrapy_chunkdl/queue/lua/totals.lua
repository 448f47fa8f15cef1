-- Tell what was counted in all, and since when at least the oldest item waits. See tally.lua and mark.lua.
--
-- KEYS: 1 :totals, 2 waiting list, 3 :marks, then other waiting lists and the marks of each
-- ARGV: names of counts; none: all of them
-- Result: {ms that the oldest item has waited at least, or -1 where none waits, name, number, name, number, ...}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function waited_in(list, marks)
  if redis.call('LLEN', list) == 0 then return -1 end
  local taken = tonumber(redis.call('HGET', KEYS[1], list == KEYS[2] and 'taken' or 'taken ' .. list)) or 0
  for _, mark in ipairs(redis.call('LRANGE', marks, 0, -1)) do
    local ms, behind = string.match(mark, '^(%d+) (%d+)$')
    if ms and tonumber(behind) > taken then return math.max(0, now - ms) end
  end
  return 0
end

local waited = -1
for i = 2, #KEYS, 2 do waited = math.max(waited, waited_in(KEYS[i], KEYS[i + 1])) end
local told = {waited}
if #ARGV == 0 then
  for _, one in ipairs(redis.call('HGETALL', KEYS[1])) do told[#told + 1] = one end
else
  for i, number in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
    told[#told + 1] = ARGV[i]
    told[#told + 1] = number or '0'
  end
end
return told
