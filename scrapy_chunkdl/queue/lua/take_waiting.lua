-- Take waiting items out of their list, to the front of the first or to :dead: what a person chose on a page of them.
--
-- KEYS: 1 waiting list, 2 :dead, 3 :totals, 4... lists that are claimed before it, the very first first
-- ARGV: 1 'front' or 'out', then the items, byte for byte
-- Result: how many were there still
--
-- Equal items are one as good as the other. What goes to :dead is not lost. O(list) for each item: 1 ms for 100,000.
local waiting, dead, totals = unpack(KEYS)
local first = KEYS[4] or waiting
local moved = 0

local function count(list, number) -- the marks of mark.lua go on to be right
  redis.call('HINCRBY', totals, list == waiting and 'taken' or 'taken ' .. list, number)
end

local function remove(payload)
  for i = 4, #KEYS + 1 do
    local list = KEYS[i] or waiting
    if redis.call('LREM', list, 1, payload) > 0 then return list end
  end
end

for i = 2, #ARGV do
  local list = remove(ARGV[i])
  if list then
    moved = moved + 1
    if ARGV[1] == 'front' then
      redis.call('LPUSH', first, ARGV[i])
      if list ~= first then count(first, -1) end
    else
      redis.call('RPUSH', dead, ARGV[i])
    end
    if ARGV[1] ~= 'front' or list ~= first then count(list, 1) end
  end
end
return moved
