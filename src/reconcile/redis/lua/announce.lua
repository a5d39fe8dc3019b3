-- What others must hear of, written to the bucket's outbox in the step that caused it: thresholds of the monthly limit,
-- nothing left, and the need to buy credits.

-- K, the most that may be used in all.
local function credits_and_line(a)
  return normal(a[PROMOTIONAL] + a[PURCHASED] + a[LINE], a[PROMOTIONAL + 1] + a[PURCHASED + 1] + a[LINE + 1])
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

local function announce_thresholds(a, events)
  for _, percent in ipairs(THRESHOLDS) do
    if is_reached(a, percent) and not has(a[ANNOUNCED], percent) then
      table.insert(a[ANNOUNCED], percent)
      table.insert(events, {'what', 'month', 'month', a[MONTH], 'percent', percent})
    end
  end
end

-- A raised limit has its percents announced anew.
local function forget_unreached_thresholds(a)
  local kept = {}
  for _, percent in ipairs(a[ANNOUNCED]) do
    if has(THRESHOLDS, percent) and is_reached(a, percent) then table.insert(kept, percent) end
  end
  a[ANNOUNCED] = kept
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
  local usd = a[PROMOTIONAL] + a[PURCHASED] - a[USED] - a[LEASED]
  local nanos = a[PROMOTIONAL + 1] + a[PURCHASED + 1] - a[USED + 1] - a[LEASED + 1]
  usd, nanos = normal(usd, nanos)
  local low_usd, low_nanos = normal(0, DUST)
  if is_less(low_usd, low_nanos, a[MINIMUM], a[MINIMUM + 1]) then low_usd, low_nanos = a[MINIMUM], a[MINIMUM + 1] end
  return not is_less(low_usd, low_nanos, usd, nanos)
end

-- Asks for one purchase for each need: its key is a function of this state.
local function request_top_up(account, a, events)
  if a[CAN_BUY] == 0 or a[PENDING][SINCE] or a[RETRY_AT] > a[NOW] or top_up_is_capped(a) or not is_low(a) then return end
  local usd, nanos = normal(a[PURCHASED] + a[AMOUNT], a[PURCHASED + 1] + a[AMOUNT + 1])
  a[PENDING] = {a[NOW], a[CREDIT_VERSION], a[ATTEMPT], a[AMOUNT], a[AMOUNT + 1], usd, nanos}
  local key = string.format('%s.%d.%d', account, a[CREDIT_VERSION], a[ATTEMPT])
  local amount = string.format('%d%09d', a[AMOUNT], a[AMOUNT + 1])
  table.insert(events, {'what', 'top-up', 'key', key, 'amount', amount})
end

-- Announces, once each, what has become true. Returns the events, for the outbox.
local function announce(account, a)
  local events = {}
  -- What a user spends is its account's to announce.
  if string.find(account, '/', 1, true) then return events end
  announce_thresholds(a, events)
  announce_depletion(a, events)
  request_top_up(account, a, events)
  return events
end

local function save_events(account, a, events)
  for _, event in ipairs(events) do
    call('XADD', tag .. 'out', 'MAXLEN', '~', EVENTS_MAX, '*', 'at', a[NOW], 'account', account, unpack(event))
  end
end
