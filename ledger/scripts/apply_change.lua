#!lua flags=allow-oom
-- ARGV: epoch, due_seq, account, key, amount, charged, counts, detail, then field, value ... Apply one change that
-- the journal owes the hot balances, strictly in order: what is at or below due_seq is done, what is
-- above the next one waits. `amount` is signed; `charged` is what a late charge adds to the sum ever
-- charged; `counts` = 1 gives the change a statement number. An empty value removes its field.
local due, account = tonumber(ARGV[2]), ARGV[3]
local amount, charged = tonumber(ARGV[5]), tonumber(ARGV[6])
if due <= due_seq then
  return figures('done', account)
elseif due > due_seq + 1 then
  return figures('gap', account)
elseif math.abs(amount) >= AMOUNT_END or math.abs(charged) >= AMOUNT_END then
  error('INVALID amount')
end
post('apply', ARGV[4], account, amount, ARGV[7] == '1', ARGV[2], ARGV[8])
redis.call('HSET', KEYS[1], 'due_seq', ARGV[2])
redis.call('SADD', names .. 'accounts', account)
if charged ~= 0 then
  charge_account(account, charged)
end
for index = 9, #ARGV, 2 do
  if ARGV[index + 1] == '' then
    redis.call('HDEL', account_key(account), ARGV[index])
  else
    redis.call('HSET', account_key(account), ARGV[index], ARGV[index + 1])
  end
end
return figures('ok', account)
