-- The UTC calendar month as yyyymm, and usage by month: what counts against the limit, and what came in late.

local DAY = 86400000

local month_of, month_end do -- A block, because Lua takes 200 local names at once.

local known_instant, known_month, ending_month, known_end

-- As `month_of`, by calendar. Years are counted from March, so that the leap day comes last.
local function calendar_month(instant)
  local days = floor(instant / DAY) + 719468
  local era = floor(days / 146097)
  local day = days - era * 146097
  local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
  local rest = day - (365 * year + floor(year / 4) - floor(year / 100))
  local from_march = floor((5 * rest + 2) / 153)
  local month = from_march < 10 and from_march + 3 or from_march - 9
  return (era * 400 + year + (month <= 2 and 1 or 0)) * 100 + month
end

-- The month of an instant in milliseconds since 1970. All accounts of a call ask for the same.
function month_of(instant)
  if instant ~= known_instant then known_instant, known_month = instant, calendar_month(instant) end
  return known_month
end

-- As `month_end`, by calendar.
local function calendar_end(yyyymm)
  local year, month = floor(yyyymm / 100), yyyymm % 100 + 1
  if month > 12 then year, month = year + 1, 1 end
  if month <= 2 then year = year - 1 end
  local era = floor(year / 400)
  local of_era = year - era * 400
  local from_march = month > 2 and month - 3 or month + 9
  local day = of_era * 365 + floor(of_era / 4) - floor(of_era / 100) + floor((153 * from_march + 2) / 5)
  return (era * 146097 + day - 719468) * DAY
end

-- When a month ends, in milliseconds since 1970.
function month_end(yyyymm)
  if yyyymm ~= ending_month then ending_month, known_end = yyyymm, calendar_end(yyyymm) end
  return known_end
end

end

local function previous_month(yyyymm)
  return max(0, yyyymm - (yyyymm % 100 <= 1 and 89 or 1))
end

local function trim_months(a)
  while #a[MONTHS_PAST] > MONTHS_KEPT * 3 do
    for _ = 1, 3 do table.remove(a[MONTHS_PAST], 1) end
  end
end

-- Counts newly reported usage to a month. MONTHS_PAST has month, USD and nano-USD of each, oldest first.
local function add_to_month(account, a, events, month, nanos)
  if month == a[MONTH] then return add(a, MONTH_USED, nanos) end
  note_late(account, a, events, month, nanos)
  local past, place = a[MONTHS_PAST], 1
  while past[place] and past[place] < month do place = place + 3 end
  if past[place] ~= month then
    if nanos <= 0 then return end
    for _, value in ipairs({0, 0, month}) do table.insert(past, place, value) end
  end
  add(past, place + 1, nanos)
end

-- Moves store time on, which never runs back, and turns the month.
local function tick(account, a, time, events)
  a[NOW] = max(a[NOW], time)
  local since = a[STRAGGLED][LATE_SINCE]
  if since and since + LATE_WAIT <= a[NOW] then keep_late(account, a, events) end
  local month = month_of(a[NOW])
  if month <= a[MONTH] then return end
  local past = a[MONTHS_PAST]
  past[#past + 1], past[#past + 2], past[#past + 3] = a[MONTH], a[MONTH_USED], a[MONTH_USED + 1]
  trim_months(a)
  if a[MONTH_USED] ~= 0 or a[MONTH_USED + 1] ~= 0 then
    keep(account, a, events, 'month', a[MONTH], a[MONTH_USED], a[MONTH_USED + 1])
  end
  a[MONTH], a[MONTH_USED], a[MONTH_USED + 1] = month, 0, 0
  a[ANNOUNCED] = {}
  a[BOUGHT], a[BOUGHT + 1] = 0, 0
end
