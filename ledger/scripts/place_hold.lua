#!lua
-- ARGV: epoch, account, digest, request_id, minimum, amount, overdraft_max, concurrent_max, ttl_ms, outbox_max.
-- Set `amount` aside, or what there is if that covers `minimum`. The same id returns the same hold.
-- Without the flag allow-oom on purpose: a full Redis refuses new work, never what ends old work.
local account, request_id = ARGV[2], ARGV[4]
local minimum, amount, overdraft_max = whole(ARGV[5]), whole(ARGV[6]), whole(ARGV[7])
local name = account_key(account)
local fields = redis.call('HMGET', name, 'balance', 'held', 'n', 'holds', 'charged', 'status', 'line', 't:' .. ARGV[3])
if not fields[8] then
  return {'unknown_token', seq, posted, 0, 0, 0}
end
local balance, held = tonumber(fields[1] or 0), tonumber(fields[2] or 0)
local function answer(status, granted)
  return {status, seq, posted, balance, balance - held, tonumber(fields[3] or 0), held, fields[6] or '', tonumber(fields[5] or 0), fields[7] or '', granted}
end
if fields[8] ~= '1' then
  return answer(fields[8] == 'r' and 'read_only' or 'revoked', 0)
elseif fields[6] ~= 'active' then
  return answer(fields[6] == 'suspended' and 'suspended' or 'closed_account', 0)
end
local hold = names .. 'h:' .. request_id
local placed = redis.call('HMGET', hold, 'account', 'amount')
if placed[1] then
  return answer(placed[1] == account and 'ok' or 'ended', tonumber(placed[2]))
elseif redis.call('EXISTS', names .. 'd:' .. request_id) == 1 then
  return answer('ended', 0) -- a repeat that arrives after its own void must not set money aside for ever
elseif tonumber(fields[4] or 0) >= tonumber(ARGV[8]) then
  return answer('busy', 0)
elseif seq - posted >= tonumber(ARGV[10]) then
  return answer('pressure', 0)
end
local room = balance - held + line_of(fields[7], fields[5], overdraft_max)
if room < amount then
  if room < minimum then
    return answer('insufficient', 0)
  end
  amount = room
end
redis.call('HSET', hold, 'account', account, 'amount', text(amount), 'charge', '0', 'detail', '')
redis.call('ZADD', names .. 'holds', text(now_ms() + tonumber(ARGV[9])), request_id)
held = redis.call('HINCRBY', name, 'held', text(amount))
redis.call('HINCRBY', name, 'holds', 1)
return answer('ok', amount)
