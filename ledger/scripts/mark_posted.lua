#!lua flags=allow-oom
-- ARGV: epoch, posted. Note how far the journal has got. A journal that is ahead of the shard means that
-- Redis lost changes: nothing is noted and the caller closes the shard.
local reached = whole(ARGV[2])
if reached > seq then
  return {'rolled_back', seq, posted}
elseif reached > posted then
  redis.call('HSET', KEYS[1], 'posted', text(reached))
  posted = reached
end
return {'ok', seq, posted}
