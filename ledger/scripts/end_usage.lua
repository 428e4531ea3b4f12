#!lua flags=allow-oom
-- ARGV: epoch, request_id, ttl_ms. See to it that a request that is not recorded yet will not be: whoever sent it may
-- only be slow. What was recorded has a seq at or below the one that is answered.
local left = redis.call('SET', names .. 'u:' .. ARGV[2], 'ended', 'PX', whole(ARGV[3]), 'NX')
return {left and 'ok' or 'known', seq, posted}
