#!lua flags=allow-oom
-- ARGV: epoch, ttl_ms, then request_id, charge, detail of each hold. Move the deadlines and note what
-- has come back so far; an empty detail means nothing has. Answers 1 or 0 (no such hold) for each.
local deadline = text(now_ms() + tonumber(ARGV[2]))
local reply = {'ok', seq, posted}
for index = 3, #ARGV, 3 do
  local hold = names .. 'h:' .. ARGV[index]
  if redis.call('EXISTS', hold) == 1 then
    if ARGV[index + 2] ~= '' then
      redis.call('HSET', hold, 'charge', text(whole(ARGV[index + 1])), 'detail', ARGV[index + 2])
    end
    redis.call('ZADD', names .. 'holds', deadline, ARGV[index])
    reply[#reply + 1] = 1
  else
    reply[#reply + 1] = 0
  end
end
return reply
