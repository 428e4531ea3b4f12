-- Begins every script that needs an open shard; the loader splices it in behind the script's flags.
-- KEYS[1] is the shard's meta key `l5:{s}:meta`; every other key is derived from it, so that all of them
-- bear the same hash tag and live in one slot. ARGV[1] is the caller's epoch: with another epoch, or on
-- a shard that is closed or missing, nothing is read and nothing changes.
local prefix = string.sub(KEYS[1], 1, -5)
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'seq', 'due_seq', 'posted')
if meta[1] ~= ARGV[1] or meta[2] ~= 'open' then
  return {'closed', meta[1] or '', meta[2] or ''}
end
local names = prefix .. 'e' .. meta[1] .. ':'
local seq, due_seq, posted = tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5])
local AMOUNT_END = 9007199254740992 -- 2^53: from here on Lua's numbers lose digits
local TOMBSTONE_MS = 900000
local DAY_MS = 86400000

-- Lua's own conversion of numbers to text loses digits from 10^14; adding 0 turns -0 into 0.
local function text(number)
  return string.format('%.0f', number + 0)
end

local function whole(argument)
  local number = string.match(argument, '^%d+$') and tonumber(argument)
  if not number or number >= AMOUNT_END then
    error('INVALID amount')
  end
  return number
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function account_key(account)
  return names .. 'a:' .. account
end

-- Every answer begins with status, seq, posted; where it concerns one account, balance, available, n follow.
local function figures(status, account)
  local fields = redis.call('HMGET', account_key(account), 'balance', 'held', 'n')
  local balance = tonumber(fields[1] or 0)
  return {status, seq, posted, balance, balance - tonumber(fields[2] or 0), tonumber(fields[3] or 0)}
end

-- How far below zero holds of this account may reach: the operator's own line, else a tenth of what it
-- was charged so far, at most `overdraft_max`; nothing where the caller allows no overdraft.
local function line_of(line, charged, overdraft_max)
  if overdraft_max == 0 then
    return 0
  end
  if line and line ~= '' then
    return tonumber(line)
  end
  return math.min(overdraft_max, math.floor(tonumber(charged or 0) / 10))
end

-- Append one change to the outbox and make it: `amount` is the signed change of the customer's balance.
-- The outbox comes first, because it alone can refuse (an id that is not above the last one), and
-- a script that fails half-way keeps what it did before. `counts` gives the change a statement number.
local function post(kind, key, account, amount, counts, due, detail)
  local name = account_key(account)
  local fields = redis.call('HMGET', name, 'balance', 'n')
  local balance, n = tonumber(fields[1] or 0) + amount, tonumber(fields[2] or 0)
  if balance >= AMOUNT_END or balance <= -AMOUNT_END then
    error('INVALID balance')
  end
  redis.call('XADD', prefix .. 'out', text(seq + 1) .. '-0',
    'kind', kind, 'key', key, 'account', account, 'n', counts and text(n + 1) or '', 'amount', text(amount),
    'balance', text(balance), 'at', text(now_ms()), 'epoch', meta[1], 'due', due, 'detail', detail)
  seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
  redis.call('HINCRBY', name, 'balance', text(amount))
  if counts then
    redis.call('HINCRBY', name, 'n', 1)
  end
  return seq
end

-- Take a hold away, with the money it set aside, and leave a tombstone that says how it ended.
local function end_hold(account, request_id, amount, tombstone)
  redis.call('HINCRBY', account_key(account), 'held', text(-tonumber(amount)))
  redis.call('HINCRBY', account_key(account), 'holds', -1)
  redis.call('DEL', names .. 'h:' .. request_id)
  redis.call('ZREM', names .. 'holds', request_id)
  redis.call('SET', names .. 'd:' .. request_id, tombstone, 'PX', TOMBSTONE_MS)
end

-- The objects that an account's answers left at providers, a set for each day: two days are remembered here.
local function made_key(account, day)
  return names .. 'm:' .. account .. ':' .. text(day)
end

local function charge_account(account, charge)
  redis.call('HINCRBY', account_key(account), 'charged', text(charge))
end

-- The month (UTC) of a moment as a number such as 202611: days since March of year 0, because years that begin in March
-- have their leap day at the end.
local function month_of(ms)
  local days = math.floor(ms / 86400000) + 719468
  local era = math.floor(days / 146097)
  local day = days - era * 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
  local month = math.floor((5 * (day - (365 * year + math.floor(year / 4) - math.floor(year / 100))) + 2) / 153)
  year = year + era * 400
  if month >= 10 then
    return (year + 1) * 100 + month - 9
  end
  return year * 100 + month + 3
end
