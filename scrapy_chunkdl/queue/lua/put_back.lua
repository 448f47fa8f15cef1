-- Put leased items behind all that wait in the list they came from, as if they had never been claimed.
--
-- KEYS: 1 waiting list, 2 :leases, 3 :payload, 4 :tries, 5 :owner, 6 :calls, 7 :past, 8... other waiting lists
-- ARGV: 1 token, 2... ids
-- Result: the ids that went back, or did in the token's last such call: its reply was lost and it was sent once more.
-- Those that are not the token's did not, nor did those that died or failed before: the list keeps no count of that.
local mine, field = ARGV[1] .. ' ', ARGV[1] .. ' behind'
local back, last = {}, nil

local function list_of(name)
  for i = 8, #KEYS do
    if KEYS[i] == name then return name end
  end
  return KEYS[1]
end

for i = 2, #ARGV do
  local id = ARGV[i]
  local owner = redis.call('HGET', KEYS[5], id)
  local story = redis.call('HGET', KEYS[7], id)
  if owner and string.sub(owner, 1, #mine) == mine then
    local list = string.match((story or '0 0 0 0') .. ' ', '^0 %d+ 0 0 (.*)$')
    if redis.call('HGET', KEYS[4], id) == '1' and list then
      redis.call('RPUSH', list_of(string.sub(list, 1, -2)), redis.call('HGET', KEYS[3], id))
      redis.call('ZREM', KEYS[2], id)
      redis.call('HDEL', KEYS[3], id)
      redis.call('HDEL', KEYS[4], id)
      redis.call('HDEL', KEYS[5], id)
      redis.call('HDEL', KEYS[7], id)
      back[#back + 1] = id
    end
  else
    last = last or ' ' .. (redis.call('HGET', KEYS[6], field) or '') .. ' '
    if string.find(last, ' ' .. id .. ' ', 1, true) then back[#back + 1] = id end
  end
end
if #back > 0 then
  redis.call('HSET', KEYS[6], field, table.concat(back, ' '))
  redis.call('EXPIRE', KEYS[6], 86400) -- what a killed process leaves behind
end
return back
