-- Sets the credits that ever came in, if they are still at the version that was read, and books the purchase.
--
-- ARGV: the account, that version, promotional USD and nano-USD, purchased USD and nano-USD, the purchase's id, its receipt.
-- A purchase that was booked answers with its receipt.

local account, version, purchase = ARGV[1], tonumber(ARGV[2]), ARGV[7]
local a = load_account(account)
if not a then return 'no such account' end
local booked = call('HGET', tag .. 'p:' .. account, purchase)
if booked then return booked end
if a[CREDIT_VERSION] ~= version then return a[CREDIT_VERSION] end

tick(a, store_time())
a[CREDIT_VERSION] = version + 1
local purchased, purchased_nanos = tonumber(ARGV[5]), tonumber(ARGV[6])
if is_less(purchased, purchased_nanos, a[PURCHASED], a[PURCHASED + 1]) then
  -- Only what is paid back lowers what was paid.
  a[PAID_BEFORE], a[PAID_BEFORE + 1] = 0, 0
else
  a[PAID_BEFORE], a[PAID_BEFORE + 1] = lifetime_paid(a)
end
a[PROMOTIONAL], a[PROMOTIONAL + 1] = tonumber(ARGV[3]), tonumber(ARGV[4])
a[PURCHASED], a[PURCHASED + 1] = purchased, purchased_nanos
a[TIER_AT], a[TIER_AT + 1] = 0, 0
local pending, events = a[PENDING], {}
local is_made = pending[SINCE] and (purchase_of(account, pending)[2] == purchase
  or not is_less(a[PURCHASED], a[PURCHASED + 1], pending[DONE_AT], pending[DONE_AT + 1]))
if is_made then
  -- It was made, or as much was bought. A smaller purchase by hand leaves it in flight.
  a[BOUGHT], a[BOUGHT + 1] = normal(a[BOUGHT] + pending[BUYS], a[BOUGHT + 1] + pending[BUYS + 1])
  if a[BOUGHT] >= USD then a[BOUGHT], a[BOUGHT + 1] = USD, 0 end
  a[PENDING], a[ATTEMPT], a[DECLINES], a[RETRY_AT] = {}, 0, 0, 0
  table.insert(events, {'what', 'top-up made', unpack(purchase_of(account, pending))})
end
rearm_balance_alert(a)
a[OPS] = a[OPS] + 1
announce(account, a, events)

local is_over = not a[PENDING][SINCE]

save_account(account, a)
if is_over then call('ZREM', tag .. 'due', account) end
call('HSET', tag .. 'p:' .. account, purchase, ARGV[8])
save_events(account, a, events)
return 'credited'
