#!lua flags=allow-oom
-- ARGV: epoch, account, request_id. Release a hold in full. The tombstone is left even where no hold is
-- found, so that a place_hold that was delayed on its way cannot leak one afterwards.
local account, request_id = ARGV[2], ARGV[3]
local hold = redis.call('HMGET', names .. 'h:' .. request_id, 'account', 'amount')
if hold[1] then
  end_hold(hold[1], request_id, hold[2], 'void')
  return figures('ok', account)
end
local left = redis.call('SET', names .. 'd:' .. request_id, 'void', 'PX', TOMBSTONE_MS, 'NX')
return figures(left and 'ok' or 'duplicate', account)
