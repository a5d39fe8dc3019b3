-- Notes an API key with its account, before it works. ARGV: account, id, digest in hex, label. Answers when that was.

local tag, account = KEYS[1], ARGV[1]
if redis.call('EXISTS', tag .. 'a:' .. account) == 0 then return 'no such account' end
local time = store_time()
redis.call('HSET', tag .. 'l:' .. account, ARGV[2], string.format('%s %.0f %s', ARGV[3], time, ARGV[4]))
return time
