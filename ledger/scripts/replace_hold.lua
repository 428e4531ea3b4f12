#!lua flags=allow-oom
-- ARGV: epoch, account, request_id, amount, ttl_ms. Place the hold of a running stream again after a rebuild.
-- Accepted whatever the balance, the limits and the memory: what it pays for is being served already.
local account, request_id, amount = ARGV[2], ARGV[3], whole(ARGV[4])
local name, hold = account_key(account), names .. 'h:' .. request_id
if redis.call('EXISTS', name) == 0 then
  return {'unknown', seq, posted, 0, 0, 0}
elseif redis.call('EXISTS', names .. 'd:' .. request_id) == 1 then
  return figures('ended', account)
elseif redis.call('EXISTS', hold) == 0 then
  redis.call('HSET', hold, 'account', account, 'amount', text(amount), 'charge', '0', 'detail', '')
  redis.call('ZADD', names .. 'holds', text(now_ms() + tonumber(ARGV[5])), request_id)
  redis.call('HINCRBY', name, 'held', text(amount))
  redis.call('HINCRBY', name, 'holds', 1)
end
return figures('ok', account)
