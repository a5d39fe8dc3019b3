-- A purchase that was asked for was declined: the next attempt waits longer, or payments failed for good.
--
-- ARGV: the account, the purchase's key, the version of the terms that were read; for the case that payments failed for good,
-- what the law looks at of the terms that follow, and these as written.

local account, key, version, numbers, terms = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local a = load_account(account)
if not a then return 'no such account' end
local pending = a[PENDING]
if not pending[SINCE] or purchase_of(account, pending)[2] ~= key then return 'not pending' end
local wait = WAITS[a[DECLINES] + 1]
if not wait and a[TERMS_VERSION] ~= version then return a[TERMS_VERSION] end

local events = {}
tick(account, a, store_time(), events)
a[PENDING], a[ATTEMPT], a[DECLINES] = {}, a[ATTEMPT] + 1, a[DECLINES] + 1
local event = {'what', 'top-up declined', unpack(purchase_of(account, pending))}
for _, word in ipairs({'declines', a[DECLINES], 'retry', wait and string.format('%.0f', a[NOW] + wait) or 'never'}) do
  table.insert(event, word)
end
tell_and_keep(account, a, events, event)
if wait then
  a[RETRY_AT] = a[NOW] + wait
else
  a[TERMS_VERSION] = version + 1
  look_at_tier(a)
  set_terms(a, numbers)
  tell_and_keep(account, a, events, {'what', 'suspended', 'why', 'failed payments'})
end
a[OPS] = a[OPS] + 1
local can_buy, retry_at = a[CAN_BUY] == 1, a[RETRY_AT]
announce(account, a, events)

save_account(account, a)
if wait and can_buy then
  call('ZADD', tag .. 'due', retry_at, account)
else
  call('ZREM', tag .. 'due', account)
end
if not wait then call('SET', tag .. 'c:' .. account, terms) end
save_history(account, events)
save_events(account, a, events)
return 'declined'
