-- Take items out of :failed or :dead, all entries of each, and put them back where that is wanted.
--
-- KEYS: 1 :failed or :dead, 2 waiting list, 3... other waiting lists
-- ARGV: 1 1 to put them back else 0, 2 a text that no entry has, new for each call, then for each item: the item or '',
--       which key it goes back to, where its first entry is, how many entries it has, entries
-- Result: how many of the items were there. Of one that is not, nothing is put back: another call, or this one before
-- its reply was lost, has done it.
--
-- LREM looks at every entry before the one it removes, so entries are marked where they are, and removed all at once.
local key, put_back, mark = KEYS[1], ARGV[1] == '1', ARGV[2]
local taken, marked = 0, 0

local function are_at(place, first, count)
  local there = redis.call('LRANGE', key, place, place + count - 1)
  for i = 1, count do
    if there[i] ~= ARGV[first + i - 1] then return false end
  end
  return true
end

local i = 3
while i <= #ARGV do
  local item, list, place, count, first = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), i + 4
  local found = 0
  if are_at(place, first, count) then
    for n = 0, count - 1 do redis.call('LSET', key, place + n, mark) end
    marked = marked + count
    found = count
  else -- somebody else has taken entries out meanwhile
    for n = 0, count - 1 do found = found + redis.call('LREM', key, 1, ARGV[first + n]) end
  end
  if found > 0 then
    taken = taken + 1
    if put_back then redis.call('RPUSH', KEYS[tonumber(list)], item) end
  end
  i = first + count
end
if marked > 0 then redis.call('LREM', key, marked, mark) end
return taken
