#!lua
-- ARGV: epoch, account, digest, block_balance, block_free, limits, outbox_max, remember_ms, debt_max, then of each request
-- its id, head, items, tokens, cost, claimed. Record the events of requests of one ingest key and charge them, each request
-- as if it had come alone: in their order, with an outbox entry and an answer of its own; the same id gives the same answer again.
-- `claimed` = 1 says that a request carries idempotency keys.
-- `head` and `items` are the record as far as the caller knows it, an event a line; `tokens` and `cost` are the sums of all.
-- Events are looked at one by one only where one of them may have to be refused.
-- Without the flag allow-oom on purpose: a full Redis refuses new work, never what ends old work.
local FIRST, WIDTH = 10, 6

-- As the prelude's, for whole numbers alone, which all are here: of every request many are written.
local function text(number)
  return string.format('%d', number)
end

local remember_ms, debt_max = whole(ARGV[8]), whole(ARGV[9])
for at = FIRST, #ARGV, WIDTH do -- all of them before anything is changed
  whole(ARGV[at + 3])
  whole(ARGV[at + 4])
end

local account, name, now = ARGV[2], account_key(ARGV[2]), now_ms()
local fields = redis.call('HMGET', name, 'balance', 'held', 'n', 'status', 'k:' .. ARGV[3], 'tier', 'org', 'month', 'tracked', 'funded')
local balance, held, n, key_id = tonumber(fields[1] or 0), tonumber(fields[2] or 0), tonumber(fields[3] or 0), fields[5]
local tier, funded, month = fields[6] or '', fields[10], tonumber(fields[8] or 0)
local present = math.max(month, month_of(now)) -- a clock that was set back opens no month again
local used = present == month and tonumber(fields[9] or 0) or 0
local blocks_money = ARGV[4] == '1' and funded
local before = {seq = seq, balance = balance, n = n, used = used}
local claimed

local limit
if ARGV[5] == '1' then
  local _, at = string.find(ARGV[6], ',' .. tier .. ':', 1, true)
  if not at then
    _, at = string.find(ARGV[6], ',free:', 1, true)
  end
  limit = at and tonumber(string.match(ARGV[6], '^%d+', at + 1))
end

local function answer(status, had, mask, paid, left)
  return {status, had, mask, paid, left}
end

local function refusal()
  if not key_id then
    return answer('unknown_key', 0, '', 0, 0)
  elseif fields[4] ~= 'active' then
    return answer(fields[4] == 'suspended' and 'suspended' or 'closed_account', 0, '', balance, balance - held)
  elseif seq - posted >= tonumber(ARGV[7]) then
    return answer('pressure', 0, '', balance, balance - held)
  end
end

-- Return which events are taken and what they come to: tokens, cost, their lines and a mark for every one, empty where all are taken.
local function first_that_fit(items, tokens, cost)
  local available = balance - held
  if not (limit and used + tokens >= limit) and not (blocks_money and cost > 0 and available < cost) then
    return tokens, cost, items, ''
  end
  local marks, kept, refused = {}, {}, false
  tokens, cost = 0, 0
  for line in string.gmatch(items, '%[[^\n]+') do
    local input, output, read, write, reasoning, price = string.match(line, '^%[%d+,(%d+),(%d+),(%d+),(%d+),(%d+),(%d+)')
    price = tonumber(price)
    if limit and used + tokens >= limit then
      marks[#marks + 1], refused = 'f', true
    elseif blocks_money and price > 0 and available < cost + price then
      marks[#marks + 1], refused = 'b', true
    else
      marks[#marks + 1] = '1'
      kept[#kept + 1] = line
      tokens, cost = tokens + input + output + read + write + reasoning, cost + price
    end
  end
  if not refused then
    return tokens, cost, items, ''
  end
  return tokens, cost, string.gsub(table.concat(kept, '\n'), ',$', ''), table.concat(marks)
end

-- Append a request to the outbox. The first one of a call can fail, where the outbox has its id already, and then nothing has changed yet;
-- the ids of the others follow. The figures are moved once for all, behind the last.
local function append(request_id, head, items, mask, tokens, cost)
  local paid = balance - cost
  local detail = head .. items .. '],"available":' .. text(paid - held) .. ',"balance":' .. text(paid) .. ',"funded":' .. (funded and '1' or '0')
    .. ',"key":"' .. key_id .. '","mask":"' .. mask .. '","month":' .. text(present) .. ',"used":' .. text(used) .. '}'
  redis.call('XADD', prefix .. 'out', text(seq + 1) .. '-0', 'kind', 'usage', 'key', 'usage:' .. request_id, 'account', account,
    'n', cost > 0 and text(n + 1) or '', 'amount', text(-cost), 'balance', text(paid), 'at', text(now), 'epoch', meta[1], 'due', '', 'detail', detail)
  seq, balance, n = seq + 1, paid, cost > 0 and n + 1 or n
  used = used + math.min(tokens, AMOUNT_END - 1 - used)
end

local function charge(at)
  local request_id, memory = ARGV[at], names .. 'u:' .. ARGV[at]
  local known = redis.call('GET', memory)
  if known then
    local had, paid, left, mask = string.match(known, '^(%d+):(%-?%d+):(%-?%d+):(%w*)$')
    if not had then
      return answer('ended', 0, '', balance, balance - held)
    end
    return answer('duplicate', tonumber(had), mask, tonumber(paid), tonumber(left))
  end
  local refused = refusal()
  if refused then
    return refused
  end
  local had, tokens, cost, items, mask = used, first_that_fit(ARGV[at + 2], whole(ARGV[at + 3]), whole(ARGV[at + 4]))
  if items == '' then
    return answer('ok', had, mask, balance, balance - held)
  elseif cost > 0 and balance - cost < -debt_max then
    return answer('exhausted', had, '', balance, balance - held)
  end
  append(request_id, ARGV[at + 1], items, mask, tokens, cost)
  claimed = ARGV[at + 5] == '1' and seq or claimed
  redis.call('SET', memory, text(had) .. ':' .. text(balance) .. ':' .. text(balance - held) .. ':' .. mask, 'PX', remember_ms)
  return answer('ok', had, mask, balance, balance - held)
end

local answers = {}
for at = FIRST, #ARGV, WIDTH do
  answers[#answers + 1] = charge(at)
end
if seq > before.seq then
  redis.call('HINCRBY', KEYS[1], 'seq', seq - before.seq)
  if n > before.n then
    redis.call('HINCRBY', name, 'balance', text(balance - before.balance))
    redis.call('HINCRBY', name, 'n', n - before.n)
  end
  if present == month then
    redis.call('HINCRBY', name, 'tracked', text(used - before.used))
  else
    redis.call('HSET', name, 'month', text(present), 'tracked', text(used))
  end
  if claimed then
    redis.call('HSET', KEYS[1], 'claimed', text(claimed))
  end
end
return {'ok', seq, posted, tier, fields[7] or '', funded and 1 or 0, unpack(answers)}
