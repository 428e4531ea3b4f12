#!lua
-- ARGV: epoch, account, digest, request_id, head, items, tokens, cost, block_balance, block_free, limits, outbox_max,
-- remember_ms, debt_max, claimed. Record the events of one request and charge them; the same id gives the same answer again.
-- `claimed` = 1 says that it carries idempotency keys.
-- `head` and `items` are the record as far as the caller knows it, an event a line; `tokens` and `cost` are the sums of all.
-- Events are looked at one by one only where one of them may have to be refused.
-- Without the flag allow-oom on purpose: a full Redis refuses new work, never what ends old work.
local account, memory = ARGV[2], names .. 'u:' .. ARGV[4]
local tokens, cost, items, debt_max = whole(ARGV[7]), whole(ARGV[8]), ARGV[6], whole(ARGV[14])
local name = account_key(account)
local fields = redis.call('HMGET', name, 'balance', 'held', 'n', 'status', 'k:' .. ARGV[3], 'tier', 'org', 'month', 'tracked', 'funded')
local balance, held, funded = tonumber(fields[1] or 0), tonumber(fields[2] or 0), fields[10]
local tier = fields[6] or ''

local function answer(status, used, mask, paid, left)
  return {status, seq, posted, paid, left, tonumber(fields[3] or 0), used, mask, tier, fields[7] or '', funded and 1 or 0}
end

local known = redis.call('GET', memory)
if known then
  local used, paid, left, mask = string.match(known, '^(%d+):(%-?%d+):(%-?%d+):(%w*)$')
  if not used then
    return answer('ended', 0, '', balance, balance - held)
  end
  return answer('duplicate', tonumber(used), mask, tonumber(paid), tonumber(left))
elseif not fields[5] then
  return answer('unknown_key', 0, '', 0, 0)
elseif fields[4] ~= 'active' then
  return answer(fields[4] == 'suspended' and 'suspended' or 'closed_account', 0, '', balance, balance - held)
elseif seq - posted >= tonumber(ARGV[12]) then
  return answer('pressure', 0, '', balance, balance - held)
end

local month, tracked = tonumber(fields[8] or 0), tonumber(fields[9] or 0)
local present = math.max(month, month_of(now_ms())) -- a clock that was set back opens no month again
local used = present == month and tracked or 0
local limit
if ARGV[10] == '1' then
  local _, at = string.find(ARGV[11], ',' .. tier .. ':', 1, true)
  if not at then
    _, at = string.find(ARGV[11], ',free:', 1, true)
  end
  limit = at and tonumber(string.match(ARGV[11], '^%d+', at + 1))
end

local available, mask = balance - held, ''
local blocks_money = ARGV[9] == '1' and funded
if (limit and used + tokens >= limit) or (blocks_money and cost > 0 and available < cost) then
  local marks, kept, refused = {}, {}, 0
  tokens, cost = 0, 0
  for line in string.gmatch(items, '%[[^\n]+') do
    local input, output, read, write, reasoning, price = string.match(line, '^%[%d+,(%d+),(%d+),(%d+),(%d+),(%d+),(%d+)')
    price = tonumber(price)
    if limit and used + tokens >= limit then
      marks[#marks + 1], refused = 'f', refused + 1
    elseif blocks_money and price > 0 and available < cost + price then
      marks[#marks + 1], refused = 'b', refused + 1
    else
      marks[#marks + 1] = '1'
      kept[#kept + 1] = line
      tokens, cost = tokens + input + output + read + write + reasoning, cost + price
    end
  end
  if refused > 0 then
    mask, items = table.concat(marks), string.gsub(table.concat(kept, '\n'), ',$', '')
    if #kept == 0 then
      return answer('ok', used, mask, balance, available)
    end
  end
end
if cost > 0 and balance - cost < -debt_max then
  return answer('exhausted', used, '', balance, available)
end

balance, available = balance - cost, available - cost
local tail = '],"available":' .. text(available) .. ',"balance":' .. text(balance) .. ',"funded":' .. (funded and '1' or '0') .. ',"key":"' .. fields[5] .. '","mask":"' .. mask
  .. '","month":' .. text(present) .. ',"used":' .. text(used) .. '}'
post('usage', 'usage:' .. ARGV[4], account, -cost, cost > 0, '', ARGV[5] .. items .. tail)
if present == month then
  redis.call('HINCRBY', name, 'tracked', text(math.min(tokens, AMOUNT_END - 1 - used)))
else
  redis.call('HSET', name, 'month', text(present), 'tracked', text(tokens))
end
if ARGV[15] == '1' then
  redis.call('HSET', KEYS[1], 'claimed', text(seq))
end
redis.call('SET', memory, text(used) .. ':' .. text(balance) .. ':' .. text(available) .. ':' .. mask, 'PX', whole(ARGV[13]))
return answer('ok', used, mask, balance, available)
