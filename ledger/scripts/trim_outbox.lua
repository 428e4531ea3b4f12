#!lua flags=allow-oom
-- ARGV: epoch, min_seq. Forget outbox entries below min_seq, never one that is not in the journal yet.
-- Trims whole nodes of the stream only, which costs next to nothing; a few older entries stay.
local from = math.min(whole(ARGV[2]), posted + 1)
return {'ok', seq, posted, redis.call('XTRIM', prefix .. 'out', 'MINID', '~', text(from) .. '-0')}
