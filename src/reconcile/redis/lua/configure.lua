-- Replaces an account's terms, if they are still at the version that was read.
--
-- ARGV: the account, that version, what the law looks at of the new terms, the terms as written, 1 where they change how the
-- account pays, 1 where they end auto top-up, 1 where they change the balance alert,
-- and in words what they change about money, or an empty text.

local account, version, numbers, terms = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local a = load_account(account)
if not a then return 'no such account' end
if a[TERMS_VERSION] ~= version then return a[TERMS_VERSION] end

local events = {}
tick(account, a, store_time(), events)
if ARGV[8] ~= '' then keep(account, a, events, 'terms', ARGV[8]) end
if ARGV[5] == '1' then a[DECLINES], a[RETRY_AT] = 0, 0 end
if ARGV[6] == '1' then a[PENDING] = {} end
a[TERMS_VERSION] = version + 1
set_terms(a, numbers)
a[DUE_AT] = 0
look_at_tier(a)
if ARGV[7] == '1' then rearm_balance_alert(a) end
forget_unreached_thresholds(a)
a[OPS] = a[OPS] + 1
announce(account, a, events)

save_account(account, a)
call('SET', tag .. 'c:' .. account, terms)
save_history(account, events)
save_events(account, a, events)
return 'configured'
