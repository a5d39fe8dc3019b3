-- Books what came in or goes back, if credits are still at the version that was read.
--
-- ARGV: the account, that version, the id, its receipt, the line of history, 1 where less was paid than before; USD and nano-USD
-- of promotional, purchased, adjusted and refunded credits, of all credits, of those free of charge, and of what was paid. For a refund the purchase's id and what of it is refunded.
-- What was booked before answers with its receipt.

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
local before, before_nanos = 0, 0
-- Only what is paid back lowers what was paid.
if ARGV[6] ~= '1' then before, before_nanos = lifetime_paid(a) end
local totals = {}
for place = 1, 14 do totals[place] = tonumber(ARGV[6 + place]) end
local bought, bought_nanos = totals[3], totals[4]
a[LOTS], a[HAS_BOUGHT] = pack({unpack(totals, 1, 8)}), (bought > 0 or bought_nanos > 0) and 1 or 0
a[CREDITS], a[CREDITS + 1], a[GIVEN], a[GIVEN + 1], a[PAID], a[PAID + 1] = unpack(totals, 9)
if is_less(a[PAID], a[PAID + 1], before, before_nanos) then a[PAID], a[PAID + 1] = before, before_nanos end
look_at_tier(a)
local pending = a[PENDING]
local is_made = pending[SINCE] and (purchase_of(account, pending)[2] == id
  or not is_less(bought, bought_nanos, pending[DONE_AT], pending[DONE_AT + 1]))
if is_made then
  -- It was made, or as much was bought. A smaller purchase by hand leaves it in flight.
  a[BOUGHT], a[BOUGHT + 1] = normal(a[BOUGHT] + pending[BUYS], a[BOUGHT + 1] + pending[BUYS + 1])
  if a[BOUGHT] >= USD then a[BOUGHT], a[BOUGHT + 1] = USD, 0 end
  a[PENDING], a[ATTEMPT], a[DECLINES], a[RETRY_AT] = {}, 0, 0, 0
  tell_and_keep(account, a, events, {'what', 'top-up made', unpack(purchase_of(account, pending))})
end
rearm_balance_alert(a)
a[OPS] = a[OPS] + 1
announce(account, a, events)

local is_over = not a[PENDING][SINCE]

save_account(account, a)
if is_over then call('ZREM', tag .. 'due', account) end
call('HSET', tag .. 'p:' .. account, id, ARGV[4])
if ARGV[21] then call('HSET', tag .. 'p:' .. account, ' refunded ' .. ARGV[21], ARGV[22]) end
save_history(account, events)
save_events(account, a, events)
return 'credited'
