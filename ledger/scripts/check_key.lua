#!lua flags=no-writes
-- ARGV: epoch, account, digest. Tell what this ingest key may do, and how its account stands; changes nothing.
local account = ARGV[2]
local fields = redis.call('HMGET', account_key(account), 'k:' .. ARGV[3], 'status', 'tier', 'org', 'month', 'tracked', 'funded')
if not fields[1] then
  return {'unknown_key', seq, posted, 0, 0, 0}
elseif fields[2] ~= 'active' then
  return figures(fields[2] == 'suspended' and 'suspended' or 'closed_account', account)
end
local reply = figures('ok', account)
local used = tonumber(fields[5] or 0) >= month_of(now_ms()) and tonumber(fields[6] or 0) or 0
for _, extra in ipairs({fields[3] or '', fields[4] or '', fields[1], used, fields[7] and 1 or 0}) do
  reply[#reply + 1] = extra
end
return reply
