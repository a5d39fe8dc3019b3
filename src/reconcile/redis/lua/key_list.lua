-- The API keys of an account: pairs of id and what is known of it. ARGV: the account.

local tag, account = KEYS[1], ARGV[1]
if redis.call('EXISTS', tag .. 'a:' .. account) == 0 then return 'no such account' end
return redis.call('HGETALL', tag .. 'l:' .. account)
