-- KEYS[1]  what one caller was admitted for, newest first, as Redis times in milliseconds
-- ARGV     most admissions within the window, window in milliseconds
-- Returns 0 when this one is admitted, else the milliseconds until one will be.
-- A refusal writes nothing, so that a flood of them costs the store no memory.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = redis.call('LINDEX', KEYS[1], limit - 1)
if oldest and now - tonumber(oldest) < window then
  return window - (now - tonumber(oldest))
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('LTRIM', KEYS[1], 0, limit - 1)
redis.call('PEXPIRE', KEYS[1], window)
return 0
