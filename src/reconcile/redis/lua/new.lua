-- An account of which nothing was heard yet, at some version of its terms and in some tier.

local function new_account(time, version, tier)
  local a = {}
  for place = 1, LAST_PLACE do a[place] = 0 end
  a[SCHEMA], a[CREATED], a[NOW], a[TERMS_VERSION], a[DEPLETED] = SCHEMA_VERSION, time, time, version, 1
  a[TIER], a[IS_LOW] = tier, 1
  a[MONTH], a[MONTHS_PAST], a[ANNOUNCED], a[PENDING] = month_of(time), {}, {}, {}
  return a
end
