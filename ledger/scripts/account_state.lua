#!lua flags=no-writes
-- ARGV: epoch, account. The account's statement number and balance at one instant.
local known = redis.call('EXISTS', account_key(ARGV[2])) == 1
return figures(known and 'ok' or 'unknown', ARGV[2])
