-- Tell which hosts are ill.
--
-- KEYS: 1 all hosts that are ill, as host_fell.lua keeps them
-- Result: {now in ms, host, record, host, record, ...}
local time = redis.call('TIME')
local result = {time[1] * 1000 + math.floor(time[2] / 1000)}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if string.sub(fields[i + 1], 1, 4) == 'ill ' then
    result[#result + 1] = fields[i]
    result[#result + 1] = fields[i + 1]
  end
end
return result
