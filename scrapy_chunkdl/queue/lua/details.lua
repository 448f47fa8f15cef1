-- Tell what processes told in detail. For a person who watches.
--
-- KEYS: 1 :details, as report.lua keeps it
-- Result: {now in ms, {token, "ms when told, details", ...}}
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1])}
