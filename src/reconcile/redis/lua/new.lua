-- An account of which nothing was heard yet, at some version of its terms.

local function new_account(time, version)
  local a = {}
  for place = 1, DUE_AT do a[place] = 0 end
  a[SCHEMA], a[CREATED], a[NOW], a[TERMS_VERSION], a[DEPLETED] = SCHEMA_VERSION, time, time, version, 1
  a[MONTH], a[MONTHS_PAST], a[ANNOUNCED], a[PENDING] = month_of(time), {}, {}, {}
  return a
end
