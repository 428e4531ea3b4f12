#!lua flags=allow-oom
-- ARGV: epoch, limit. End the holds whose deadline has passed: charge what their last checkpoint says,
-- or nothing when nothing had come back. The clock is read here, so that a renewal is never overtaken
-- by a caller's clock. Answers how many ended and how many of them were charged.
local due = redis.call('ZRANGEBYSCORE', names .. 'holds', '-inf', text(now_ms()), 'LIMIT', 0, tonumber(ARGV[2]))
local charges = 0
for _, request_id in ipairs(due) do
  local hold = redis.call('HMGET', names .. 'h:' .. request_id, 'account', 'amount', 'charge', 'detail')
  if not hold[1] then
    redis.call('ZREM', names .. 'holds', request_id)
  elseif hold[4] == '' then
    end_hold(hold[1], request_id, hold[2], 'expired:0:0')
  else
    local charge = whole(hold[3])
    local at = post('charge', 'charge:' .. request_id, hold[1], -charge, true, '', hold[4])
    charge_account(hold[1], charge)
    end_hold(hold[1], request_id, hold[2], 'expired:' .. text(charge) .. ':' .. text(at))
    charges = charges + 1
  end
end
return {'ok', seq, posted, #due, charges}
