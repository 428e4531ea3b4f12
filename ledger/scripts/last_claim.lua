#!lua flags=no-writes
-- ARGV: epoch. How far the shard has got with the journal, and the seq of the last request that had idempotency keys.
return {'ok', seq, posted, due_seq, tonumber(redis.call('HGET', KEYS[1], 'claimed') or 0)}
