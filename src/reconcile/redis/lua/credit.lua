-- Books what came in or goes back, if credits are still at the version that was read.
--
-- ARGV: the account, that version, the id, its receipt, the line of history; USD and nano-USD of promotional, purchased, adjusted
-- and refunded credits, of all credits, of those free of charge, of what was paid, and of how much less that is than before. For
-- a refund the purchase's id and what of it is refunded. What was booked before answers with its receipt.

local account, version, id = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local a = load_account(account)
if not a then return 'no such account' end
local booked = call('HGET', tag .. 'p:' .. account, id)
if booked then return booked end
if a[CREDIT_VERSION] ~= version then return a[CREDIT_VERSION] end

local events = {}
tick(account, a, store_time(), events)
keep(account, a, events, 'credit', ARGV[5])
a[CREDIT_VERSION] = version + 1
local totals = {}
for place = 1, 16 do totals[place] = tonumber(ARGV[5 + place]) end
-- Only what is paid back lowers what was paid, and by no more than that.
local before, before_nanos = lifetime_paid(a)
before, before_nanos = normal(before - totals[15], before_nanos - totals[16])
local bought, bought_nanos = totals[3], totals[4]
a[LOTS], a[HAS_BOUGHT] = pack({unpack(totals, 1, 8)}), (bought > 0 or bought_nanos > 0) and 1 or 0
a[CREDITS], a[CREDITS + 1], a[GIVEN], a[GIVEN + 1], a[PAID], a[PAID + 1] = unpack(totals, 9, 14)
if is_less(a[PAID], a[PAID + 1], before, before_nanos) then a[PAID], a[PAID + 1] = before, before_nanos end
look_at_tier(a)
local pending = a[PENDING]
local is_made = pending[SINCE] and not is_less(bought, bought_nanos, pending[DONE_AT], pending[DONE_AT + 1])
if is_made then
  -- It was made, or as much was bought. A smaller purchase by hand leaves it in flight, and so does what is no purchase,
  -- whatever its id.
  a[BOUGHT], a[BOUGHT + 1] = normal(a[BOUGHT] + pending[BUYS], a[BOUGHT + 1] + pending[BUYS + 1])
  if a[BOUGHT] >= USD then a[BOUGHT], a[BOUGHT + 1] = USD, 0 end
  a[PENDING], a[ATTEMPT], a[DECLINES], a[RETRY_AT] = {}, 0, 0, 0
  tell_and_keep(account, a, events, {'what', 'top-up made', unpack(purchase_of(account, pending))})
end
rearm_balance_alert(a)
a[OPS] = a[OPS] + 1
announce(account, a, events)

-- A purchase that was declined is looked at again when its wait is over.
local is_over = not a[PENDING][SINCE] and a[RETRY_AT] <= a[NOW]

save_account(account, a)
if is_over then call('ZREM', tag .. 'due', account) end
call('HSET', tag .. 'p:' .. account, id, ARGV[4])
if ARGV[22] then call('HSET', tag .. 'p:' .. account, ' refunded ' .. ARGV[22], ARGV[23]) end
save_history(account, events)
save_events(account, a, events)
return 'credited'
