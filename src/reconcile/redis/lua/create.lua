-- Begins an account without credits. ARGV: its name, what the law looks at of its terms, the terms as written, its tier.

local account, numbers, terms = ARGV[1], ARGV[2], ARGV[3]
local time = store_time()
if load_account(account) then return 'exists' end

local a = {}
for place = 1, LAST_PLACE do a[place] = 0 end
a[SCHEMA], a[CREATED], a[NOW], a[TERMS_VERSION], a[DEPLETED] = SCHEMA_VERSION, time, time, 1, 1
a[TIER], a[IS_LOW] = tonumber(ARGV[4]), 1
a[MONTH], a[MONTHS_PAST], a[ANNOUNCED], a[PENDING] = month_of(time), {}, {}, {}
set_terms(a, numbers)

save_account(account, a)
call('SET', tag .. 'c:' .. account, terms)
call('ZADD', tag .. 'names', 0, account)
return 'created'
