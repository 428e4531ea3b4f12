#!lua flags=allow-oom
-- ARGV: epoch, or empty for any. Close what is left of a shard; one that was opened in a newer epoch stays.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
  return {'missing'}
elseif ARGV[1] ~= '' and ARGV[1] ~= epoch then
  return {'other_epoch', epoch}
end
redis.call('HSET', KEYS[1], 'state', 'closed')
return {'ok', epoch}
