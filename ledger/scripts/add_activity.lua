#!lua
-- ARGV: seconds to keep, most models of a day, most clients, then six words an entry: 'h', account, day, hour, model, counters, or
-- 'c', account, family, requests, milliseconds when last seen, ''. Add what a worker saw; no books, so that no shard need be open.
-- Without the flag allow-oom on purpose: a full Redis has better things to keep.
local prefix = string.sub(KEYS[1], 1, -5) .. 'act:'
local seconds, models_max, clients_max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- Counters are a letter and a number each; the sum has each letter once.
local function sum_of(old, new)
  local sums, order = {}, {}
  for letter, count in string.gmatch(old .. new, '(%a)(%d+)') do
    if not sums[letter] then
      sums[letter] = 0
      order[#order + 1] = letter
    end
    sums[letter] = sums[letter] + tonumber(count)
  end
  for place, letter in ipairs(order) do
    order[place] = letter .. string.format('%.0f', sums[letter])
  end
  return table.concat(order)
end

-- A day tells so many models apart: each is noted once in a field of its own, and 'n' counts them.
local function told_apart(key, model)
  if model == '' or model == '*' or redis.call('HEXISTS', key, 'm' .. model) == 1 then
    return model
  end
  if redis.call('HINCRBY', key, 'n', 1) > models_max then
    redis.call('HINCRBY', key, 'n', -1)
    return '*'
  end
  redis.call('HSET', key, 'm' .. model, '')
  return model
end

for at = 4, #ARGV, 6 do
  local account = ARGV[at + 1]
  if ARGV[at] == 'h' then
    local key = prefix .. account .. ':' .. ARGV[at + 2]
    local field = 'h' .. ARGV[at + 3] .. told_apart(key, ARGV[at + 4])
    redis.call('HSET', key, field, sum_of(redis.call('HGET', key, field) or '', ARGV[at + 5]))
    redis.call('EXPIRE', key, seconds)
  else
    local key, family = prefix .. account .. ':clients', ARGV[at + 2]
    local seen = redis.call('HGET', key, family)
    if seen or redis.call('HLEN', key) < clients_max then
      local count, last = string.match(seen or '0 0', '^(%d+) (%d+)$')
      local latest = math.max(tonumber(last or 0), tonumber(ARGV[at + 4]))
      redis.call('HSET', key, family, string.format('%.0f %.0f', tonumber(count or 0) + tonumber(ARGV[at + 3]), latest))
      redis.call('EXPIRE', key, seconds)
    end
  end
end
return {'ok'}
