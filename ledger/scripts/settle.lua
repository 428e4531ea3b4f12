#!lua flags=allow-oom
-- ARGV: epoch, account, request_id, charge, detail, then digests of what the answer left at its provider, if anything.
-- Turn a hold into the charge for what was used, in full even above the hold. A repeat changes nothing. After an
-- expiry only the difference is charged, once. Without a hold or the trace of one nothing is charged here: the
-- journal decides (the late way), because it alone knows for ever whether this request was charged before.
local account, request_id, charge, detail = ARGV[2], ARGV[3], whole(ARGV[4]), ARGV[5]
local hold = redis.call('HMGET', names .. 'h:' .. request_id, 'account', 'amount')
local function answer(status, charged, at)
  local reply = figures(status, account)
  reply[7], reply[8] = charged, at
  return reply
end
local function remember_made()
  if #ARGV > 5 then
    local key = made_key(account, math.floor(now_ms() / DAY_MS))
    redis.call('SADD', key, unpack(ARGV, 6))
    redis.call('PEXPIRE', key, 2 * DAY_MS)
  end
end
if hold[1] then
  if hold[1] ~= account then
    error('INVALID account of the hold')
  end
  local at = post('charge', 'charge:' .. request_id, account, -charge, true, '', detail)
  charge_account(account, charge)
  end_hold(account, request_id, hold[2], 'settled:' .. text(charge) .. ':' .. text(at))
  remember_made()
  return answer('ok', charge, at)
end
local tombstone = redis.call('GET', names .. 'd:' .. request_id) or 'none'
local ending, charged, at = string.match(tombstone, '^(%a+):(%d+):(%d+)$')
if ending == 'settled' then
  return answer('duplicate', tonumber(charged), tonumber(at))
elseif ending ~= 'expired' then
  return answer('unknown', 0, 0)
end
local difference = charge - tonumber(charged)
at = tonumber(at)
if at == 0 then
  at = post('charge', 'charge:' .. request_id, account, -charge, true, '', detail)
elseif difference ~= 0 then
  at = post('adjust', 'adjust:' .. request_id, account, -difference, true, '', detail)
end
charge_account(account, difference)
remember_made()
redis.call('SET', names .. 'd:' .. request_id, 'settled:' .. text(charge) .. ':' .. text(at), 'PX', TOMBSTONE_MS)
return answer('ok', charge, at)
