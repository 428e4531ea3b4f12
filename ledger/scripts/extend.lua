#!lua flags=allow-oom
-- ARGV: epoch, request_id, amount, overdraft_max. Let a hold grow to `amount` in total, all of it or nothing.
-- A total that the hold has reached already is granted again, so that a repeat is harmless.
local request_id, amount, overdraft_max = ARGV[2], whole(ARGV[3]), whole(ARGV[4])
local hold = redis.call('HMGET', names .. 'h:' .. request_id, 'account', 'amount')
local account = hold[1]
if not account then
  return {'unknown', seq, posted, 0, 0, 0}
end
local present = tonumber(hold[2])
local status = 'ok'
if amount > present then
  local fields = redis.call('HMGET', account_key(account), 'balance', 'held', 'charged', 'line')
  local room = tonumber(fields[1] or 0) - tonumber(fields[2] or 0) + line_of(fields[4], fields[3], overdraft_max)
  if amount - present > room then
    status = 'insufficient'
  else
    redis.call('HSET', names .. 'h:' .. request_id, 'amount', text(amount))
    redis.call('HINCRBY', account_key(account), 'held', text(amount - present))
    present = amount
  end
end
local reply = figures(status, account)
reply[7] = present
return reply
