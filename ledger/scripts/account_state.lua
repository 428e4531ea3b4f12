#!lua flags=no-writes
-- ARGV: epoch, account. The account's statement number and balance at one instant, and the tokens it reported in which month.
local known = redis.call('EXISTS', account_key(ARGV[2])) == 1
local reply = figures(known and 'ok' or 'unknown', ARGV[2])
local month = redis.call('HMGET', account_key(ARGV[2]), 'month', 'tracked')
reply[7], reply[8] = tonumber(month[1] or 0), tonumber(month[2] or 0)
return reply
