-- Remember how far each list reaches at this moment, so that it can be told how long its oldest item waits.
--
-- KEYS: 1 :totals, 2 waiting list, 3 :marks, a list, then other waiting lists and the marks of each
-- ARGV: 1 most marks, 2 s for which they are kept
-- Result: 1
--
-- A mark is "ms, number": how many items had been put behind the list by then, counted by those that were taken from its
-- front (claim.lua) and those in it. So the oldest that waits came before the first mark above what has been taken by
-- now. At most one a minute; when they are too many every second one goes. Where the list is shorter than the marks say,
-- somebody else has taken from it: they say nothing any more. O(marks that are passed).
if redis.replicate_commands then redis.replicate_commands() end -- Redis 5 and 6: TIME before writes
local totals = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function mark(waiting, marks)
  local field = waiting == KEYS[2] and 'taken' or 'taken ' .. waiting
  local taken = tonumber(redis.call('HGET', totals, field)) or 0
  while true do
    local oldest = redis.call('LINDEX', marks, 0)
    local behind = oldest and tonumber(string.match(oldest, '^%d+ (%d+)$'))
    if not oldest or behind and behind > taken then break end
    redis.call('LPOP', marks)
  end
  local behind = taken + redis.call('LLEN', waiting)
  local last, last_behind = string.match(redis.call('LINDEX', marks, -1) or '', '^(%d+) (%d+)$')
  if last and tonumber(last_behind) > behind then
    redis.call('DEL', marks)
    last = nil
  end
  if behind > taken and (not last or now - last >= 60000 or now < tonumber(last)) then
    redis.call('RPUSH', marks, string.format('%.0f %.0f', now, behind))
    if redis.call('LLEN', marks) > tonumber(ARGV[1]) then
      local kept = redis.call('LRANGE', marks, 0, -1)
      redis.call('DEL', marks)
      for i = 1, #kept, 2 do redis.call('RPUSH', marks, kept[i]) end
    end
    redis.call('EXPIRE', marks, ARGV[2])
  end
end

for i = 2, #KEYS, 2 do mark(KEYS[i], KEYS[i + 1]) end
return 1
