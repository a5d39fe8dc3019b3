-- Work for the cashier in some buckets, taken for a while: purchases that are due, and events that nobody has taken.
--
-- KEYS: buckets. ARGV: for how many milliseconds it is taken, at most how many purchases, at most how many events.
-- The answer: purchases, each as account, key, attempt, USD, nano-USD and its age; events, each as bucket, id, its fields and
-- its age; then how many purchases and events there are in all, and the age of the oldest event. Buckets are counted from 1.

local life, purchases_left, events_left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = store_time()
local purchases, taken_events = {}, {}
local purchases_in_all, events_in_all, oldest = 0, 0, 0

-- Looks at an account's need; the purchase, where there is one, or false.
local function look(account)
  local a = load_account(account)
  if not a then return false end
  local events = {}
  tick(account, a, time, events)
  announce(account, a, events)
  local pending = a[PENDING]
  save_account(account, a)
  save_history(account, events)
  save_events(account, a, events)
  if not pending[SINCE] then return false end
  return {account, purchase_of(account, pending)[2], pending[KEY_ATTEMPT], pending[BUYS], pending[BUYS + 1],
    max(0, a[NOW] - pending[SINCE])}
end

local function take_purchases()
  local due = call('ZRANGEBYSCORE', tag .. 'due', '-inf', string.format('%.0f', time), 'LIMIT', 0, purchases_left)
  for _, account in ipairs(due) do
    local purchase = guarded(look, account)
    if purchase then
      -- What cannot be read is not looked at for a while.
      call('ZADD', tag .. 'due', time + life, account)
      table.insert(purchases, type(purchase) == 'table' and purchase or {account, purchase})
      purchases_left = purchases_left - 1
    else
      call('ZREM', tag .. 'due', account)
    end
  end
  purchases_in_all = purchases_in_all + call('ZCARD', tag .. 'due')
end

local function age_of(id)
  return max(0, time - tonumber(string.match(id, '^%d+')))
end

local function take_event(bucket, entry)
  call('ZADD', tag .. 'claims', time + life, entry[1])
  table.insert(taken_events, {bucket, entry[1], entry[2], age_of(entry[1])})
  events_left = events_left - 1
end

-- Events that were taken before and not finished in time.
local function take_late(bucket)
  local due = call('ZRANGEBYSCORE', tag .. 'claims', '-inf', string.format('%.0f', time), 'LIMIT', 0, events_left)
  for _, id in ipairs(due) do
    local entry = call('XRANGE', tag .. 'out', id, id)[1]
    if entry then take_event(bucket, entry) else call('ZREM', tag .. 'claims', id) end
  end
end

-- Those that nobody took. No more are begun while too many are put off: each look passes over these.
local function take_new(bucket)
  local claimed = call('ZCARD', tag .. 'claims')
  if claimed >= CLAIMS_MAX then return end
  for _, entry in ipairs(call('XRANGE', tag .. 'out', '-', '+', 'COUNT', claimed + events_left)) do
    if events_left > 0 and not call('ZSCORE', tag .. 'claims', entry[1]) then take_event(bucket, entry) end
  end
end

local function take_events(bucket)
  local first = call('XRANGE', tag .. 'out', '-', '+', 'COUNT', 1)[1]
  if not first then return end
  events_in_all = events_in_all + call('XLEN', tag .. 'out')
  oldest = max(oldest, age_of(first[1]))
  if events_left > 0 then take_late(bucket) end
  if events_left > 0 then take_new(bucket) end
end

for bucket, key in ipairs(KEYS) do
  tag = key
  -- A bucket without work costs this and no more.
  if call('EXISTS', tag .. 'due', tag .. 'out') > 0 then
    take_purchases()
    take_events(bucket)
  end
end
return {purchases, taken_events, purchases_in_all, events_in_all, oldest}
