-- Take entries out of :failed or :dead, all those of one item, and put the item back where that is wanted.
--
-- KEYS: 1 :failed or :dead, 2 waiting list
-- ARGV: 1 1 to put the item back else 0, 2 the item or '', 3... entries, each removed once
-- Result: how many entries were there. With none nothing is put back: another call, or this one before its reply was
-- lost, has done it.
local removed = 0
for i = 3, #ARGV do removed = removed + redis.call('LREM', KEYS[1], 1, ARGV[i]) end
if removed > 0 and ARGV[1] == '1' then redis.call('RPUSH', KEYS[2], ARGV[2]) end
return removed
