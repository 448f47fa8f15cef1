-- Tell what was counted in all, and since when at least the oldest item waits. See tally.lua and mark.lua.
--
-- KEYS: 1 :totals, 2 waiting list, 3 :marks
-- ARGV: names of counts; none: all of them
-- Result: {ms that the oldest item has waited at least, or -1 where none waits, name, number, name, number, ...}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local waited = -1
if redis.call('LLEN', KEYS[2]) > 0 then
  waited = 0
  local taken = tonumber(redis.call('HGET', KEYS[1], 'taken')) or 0
  for _, mark in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
    local ms, behind = string.match(mark, '^(%d+) (%d+)$')
    if ms and tonumber(behind) > taken then
      waited = math.max(0, now - ms)
      break
    end
  end
end
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
