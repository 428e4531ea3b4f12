#!lua flags=allow-oom
-- ARGV: epoch, seq, due_seq, posted, instance, mode. Open a shard in a new epoch. One that was closed is never
-- opened again in the same epoch, and the outbox must not be ahead: its next entry would be refused.
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'state')
if meta[1] then
  if meta[1] == ARGV[1] and meta[2] == 'open' then
    return {'ok'}
  elseif tonumber(meta[1]) >= tonumber(ARGV[1]) then
    return {'old_epoch', meta[1]}
  end
end
local outbox = string.sub(KEYS[1], 1, -5) .. 'out'
if redis.call('EXISTS', outbox) == 1 then
  local facts = redis.call('XINFO', 'STREAM', outbox)
  for index = 1, #facts, 2 do
    if facts[index] == 'last-generated-id' and tonumber(string.match(facts[index + 1], '^%d+')) > tonumber(ARGV[2]) then
      return {'outbox_ahead', facts[index + 1]}
    end
  end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'state', 'open', 'seq', ARGV[2], 'due_seq', ARGV[3], 'posted', ARGV[4],
  'instance', ARGV[5], 'mode', ARGV[6])
return {'ok'}
