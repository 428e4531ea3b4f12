#!lua flags=no-writes
-- ARGV: epoch, account, digest ... Tell of each object of an answer whether this account made it lately: 1 or 0.
local today = math.floor(now_ms() / DAY_MS)
local found = redis.call('SMISMEMBER', made_key(ARGV[2], today), unpack(ARGV, 3))
local before = redis.call('SMISMEMBER', made_key(ARGV[2], today - 1), unpack(ARGV, 3))
local answer = {'ok', seq, posted}
for index = 1, #found do
  answer[index + 3] = math.max(found[index], before[index])
end
return answer
