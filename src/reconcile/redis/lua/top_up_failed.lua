-- The purchase under a key was declined: the next attempt waits longer, and when no wait is left, auto top-up ends.
--
-- ARGV: the account, the key, the terms' version that was read; then what the terms become where auto top-up ends: what the
-- law looks at, and as written. Answers with the terms' version where another one is needed.

local account, version = ARGV[1], tonumber(ARGV[3])
local a = load_account(account)
if not a then return 'no such account' end
if not a[PENDING][SINCE] or purchase_key(account, a[PENDING]) ~= ARGV[2] then return 'not in flight' end
local wait = TOP_UP_WAITS[a[DECLINES] + 1]
if not wait and a[TERMS_VERSION] ~= version then return a[TERMS_VERSION] end

tick(a, store_time())
a[PENDING], a[ATTEMPT], a[DECLINES] = {}, a[ATTEMPT] + 1, a[DECLINES] + 1
if wait then
  a[RETRY_AT] = a[NOW] + wait
else
  set_terms(a, ARGV[4])
  a[TERMS_VERSION] = version + 1
end
a[OPS] = a[OPS] + 1
local can_buy, retry_at = a[CAN_BUY], a[RETRY_AT]
local events = announce(account, a)

save_account(account, a)
if not wait then call('SET', tag .. 'c:' .. account, ARGV[5]) end
if wait and can_buy == 1 then
  call('ZADD', tag .. 'due', retry_at, account)
else
  call('ZREM', tag .. 'due', account)
end
save_events(account, a, events)
return 'failed'
