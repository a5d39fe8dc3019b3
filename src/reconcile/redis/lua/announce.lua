-- What others must hear of, written to the bucket's outbox in the step that caused it: another tier, thresholds of the
-- monthly limit, little or nothing left, and the need to buy credits.

-- K, the most that may be used in all.
local function credits_and_line(a)
  return normal(a[CREDITS] + a[LINE], a[CREDITS + 1] + a[LINE + 1])
end

-- Credits that are not used and not lent.
local function available(a)
  return normal(a[CREDITS] - a[USED] - a[LEASED], a[CREDITS + 1] - a[USED + 1] - a[LEASED + 1])
end

-- The greatest of what was paid before, what was purchased, and what was used beyond credit free of charge.
local function lifetime_paid(a)
  local usd, nanos = a[PAID], a[PAID + 1]
  local paid_usd, paid_nanos = normal(a[USED] - a[GIVEN], a[USED + 1] - a[GIVEN + 1])
  if is_less(usd, nanos, paid_usd, paid_nanos) then return paid_usd, paid_nanos end
  return usd, nanos
end

-- Notes the tier, unless an override sets it, and the usage from which on it may be another.
local function derive_tier(a)
  local usd, nanos = lifetime_paid(a)
  local tier = 0
  a[TIER_AT], a[TIER_AT + 1] = NO_TIER_AT, 0
  for _, rule in ipairs(TIERS) do
    if is_less(usd, nanos, rule[2], rule[3]) then
      a[TIER_AT], a[TIER_AT + 1] = normal(rule[2] + a[GIVEN], rule[3] + a[GIVEN + 1])
      break
    end
    if rule[4] <= a[IS_BILLABLE] then tier = rule[1] end
  end
  return a[OVERRIDE] >= 0 and a[OVERRIDE] or tier
end

-- The tier may be another, whatever was used.
local function look_at_tier(a)
  a[TIER_AT], a[TIER_AT + 1] = -1e15, 0
end

-- A postpaid account's monthly limit is its own, and no more than its tier allows.
local function bound_limit(a)
  local own, most = a[OWN_LIMIT], TIER_LIMITS[a[TIER] + 1]
  if not own[1] then return end
  a[LIMIT_KIND], a[LIMIT], a[LIMIT + 1] = own[1], own[2], own[3]
  if most and (own[1] == 0 or is_less(most[1], most[2], own[2], own[3])) then
    a[LIMIT_KIND], a[LIMIT], a[LIMIT + 1] = PAUSES, most[1], most[2]
  end
end

-- Rights that sessions give back do not make it true again: they would go to and fro about the threshold.
local function announce_low_balance(a, events)
  if a[IS_LOW] == 1 then return end
  local usd, nanos = available(a)
  if is_less(a[ALERT], a[ALERT + 1], usd, nanos) then return end
  a[IS_LOW] = 1
  local function text(number) return string.format('%.0f', number) end
  table.insert(events, {'what', 'low', 'alert', text(a[ALERT]), 'nanos', text(a[ALERT + 1]), 'available', text(usd),
    'nanos', text(nanos)})
end

-- After credits came in, or another alert was set: a balance above the alert may fall to it.
local function rearm_balance_alert(a)
  local usd, nanos = normal(a[CREDITS] - a[USED], a[CREDITS + 1] - a[USED + 1])
  a[IS_LOW] = (a[HAS_ALERT] == 1 and is_less(a[ALERT], a[ALERT + 1], usd, nanos)) and 0 or 1
end

-- Usage counts in this month, and with the dust it comes to so many percent of the limit.
local function is_reached(a, percent)
  if a[LIMIT_KIND] == 0 or not is_positive(a, MONTH_USED) then return false end
  local dust = percent == 100 and DUST or 0
  local dust_usd, dust_nanos = normal(0, dust)
  local usd = (a[MONTH_USED] + dust_usd) * 100 - a[LIMIT] * percent
  return normal(usd, (a[MONTH_USED + 1] + dust_nanos) * 100 - a[LIMIT + 1] * percent) >= 0
end

local function has(list, wanted)
  for _, one in ipairs(list) do
    if one == wanted then return true end
  end
  return false
end

-- The percents that are announced: those of the terms, which stand in one number, three digits each, or the pool's own.
local function thresholds(a)
  local number, own = a[PERCENTS], {}
  if number == 0 then return THRESHOLDS end
  while number > 0 do
    table.insert(own, number % 1000)
    number = floor(number / 1000)
  end
  return own
end

local function announce_thresholds(a, events)
  for _, percent in ipairs(thresholds(a)) do
    if not has(a[ANNOUNCED], percent) and is_reached(a, percent) then
      table.insert(a[ANNOUNCED], percent)
      table.insert(events, {'what', 'month', 'month', a[MONTH], 'percent', percent})
    end
  end
end

-- A raised limit has its percents announced anew; another list of percents changes nothing of what was announced.
local function forget_unreached_thresholds(a)
  local kept = {}
  for _, percent in ipairs(a[ANNOUNCED]) do
    if is_reached(a, percent) then table.insert(kept, percent) end
  end
  a[ANNOUNCED] = kept
end

local function announce_tier(account, a, events)
  if is_less(a[USED], a[USED + 1], a[TIER_AT], a[TIER_AT + 1]) then return end
  local from, to = a[TIER], derive_tier(a)
  -- In another catalogue the same tier may allow another limit.
  a[TIER] = to
  bound_limit(a)
  if from == to then return end
  forget_unreached_thresholds(a)
  tell_and_keep(account, a, events, {'what', 'tier', 'from', from, 'to', to})
end

local function announce_depletion(a, events)
  local usd, nanos = credits_and_line(a)
  usd, nanos = normal(usd - a[USED], nanos - a[USED + 1] - DUST)
  local gone = (usd < 0 or usd == 0 and nanos == 0) and 1 or 0
  if gone == 1 and a[DEPLETED] == 0 then table.insert(events, {'what', 'depleted'}) end
  a[DEPLETED] = gone
end

local function top_up_is_capped(a)
  if a[IS_CAPPED] == 0 then return false end
  local usd, nanos = normal(a[BOUGHT] + a[AMOUNT], a[BOUGHT + 1] + a[AMOUNT + 1])
  return is_less(a[CAP], a[CAP + 1], usd, nanos)
end

-- What is available has fallen to the minimum, or to dust.
local function is_low(a)
  local usd, nanos = available(a)
  local low_usd, low_nanos = normal(0, DUST)
  if is_less(low_usd, low_nanos, a[MINIMUM], a[MINIMUM + 1]) then low_usd, low_nanos = a[MINIMUM], a[MINIMUM + 1] end
  return not is_less(low_usd, low_nanos, usd, nanos)
end

-- A purchase in flight, as events tell it. Its key is a function of the state that it was asked for in.
local function purchase_of(account, pending)
  local key = string.format('%s.%d.%d', account, pending[KEY_VERSION], pending[KEY_ATTEMPT])
  return {'key', key, 'amount', string.format('%d%09d', pending[BUYS], pending[BUYS + 1])}
end

-- Asks for one purchase for each need.
local function request_top_up(account, a, events)
  if a[CAN_BUY] == 0 or a[PENDING][SINCE] or a[RETRY_AT] > a[NOW] or top_up_is_capped(a) or not is_low(a) then return end
  local lots = unpack_one(a[LOTS])
  local usd, nanos = normal(lots[3] + a[AMOUNT], lots[4] + a[AMOUNT + 1])
  a[PENDING] = {a[NOW], a[CREDIT_VERSION], a[ATTEMPT], a[AMOUNT], a[AMOUNT + 1], usd, nanos}
  tell_and_keep(account, a, events, {'what', 'top-up', unpack(purchase_of(account, a[PENDING]))})
end

-- Announces, once each, what has become true, by adding it to the events for the outbox.
local function announce(account, a, events)
  -- What a user spends is its account's to announce.
  if string.find(account, '/', 1, true) then return end
  announce_tier(account, a, events)
  announce_thresholds(a, events)
  announce_low_balance(a, events)
  announce_depletion(a, events)
  request_top_up(account, a, events)
end

local function save_events(account, a, events)
  for _, event in ipairs(events) do
    call('XADD', tag .. 'out', 'MAXLEN', '~', EVENTS_MAX, '*', 'at', a[NOW], 'account', account, unpack(event))
    if event[2] == 'top-up' then call('ZADD', tag .. 'due', a[NOW], account) end
  end
end
