#!lua flags=no-writes
-- ARGV: epoch, account, digest. Tell what this token may do, and the account's figures; changes nothing.
-- Only an open shard reaches this line, so "unknown" is never said by a shard that lost its data.
local account = ARGV[2]
local fields = redis.call('HMGET', account_key(account), 't:' .. ARGV[3], 'status', 'held', 'charged', 'line')
if not fields[1] then
  return {'unknown_token', seq, posted, 0, 0, 0}
end
local status = 'ok'
if fields[1] ~= '1' then
  status = fields[1] == 'r' and 'read_only' or 'revoked'
elseif fields[2] ~= 'active' then
  status = fields[2] == 'suspended' and 'suspended' or 'closed_account'
end
local reply = figures(status, account)
for _, extra in ipairs({tonumber(fields[3] or 0), fields[2] or '', tonumber(fields[4] or 0), fields[5] or ''}) do
  reply[#reply + 1] = extra
end
return reply
