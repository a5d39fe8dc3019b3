-- Begins an account without credits. ARGV: its name, what the law looks at of its terms, the terms as written, its tier.

local account, numbers, terms = ARGV[1], ARGV[2], ARGV[3]
local time = store_time()
if load_account(account) then return 'exists' end

local a = new_account(time, 1)
a[TIER] = tonumber(ARGV[4])
set_terms(a, numbers)

save_account(account, a)
call('SET', tag .. 'c:' .. account, terms)
call('ZADD', tag .. 'names', 0, account)
return 'created'
