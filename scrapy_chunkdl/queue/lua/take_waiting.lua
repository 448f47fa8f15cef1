-- Take waiting items out of the list, to its front or to :dead: what a person chose on a page of it.
--
-- KEYS: 1 waiting list, 2 :dead, 3 :totals
-- ARGV: 1 'front' or 'out', then the items, byte for byte
-- Result: how many were there still
--
-- Equal items are one as good as the other. What goes to :dead is not lost. O(list) for each item: 1 ms for 100,000.
local waiting, dead, totals = unpack(KEYS)
local moved, left = 0, 0
for i = 2, #ARGV do
  local payload = ARGV[i]
  if redis.call('LREM', waiting, 1, payload) > 0 then
    moved = moved + 1
    if ARGV[1] == 'front' then
      redis.call('LPUSH', waiting, payload)
    else
      redis.call('RPUSH', dead, payload)
      left = left + 1
    end
  end
end
if left > 0 then redis.call('HINCRBY', totals, 'taken', left) end -- the marks of mark.lua go on to be right
return moved
