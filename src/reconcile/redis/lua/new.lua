-- An account of which nothing was heard yet, at some version of its terms, in no tier.

local function new_account(time, version)
  local a = {}
  for place = 1, LAST_PLACE do a[place] = 0 end
  a[SCHEMA], a[CREATED], a[NOW], a[TERMS_VERSION], a[DEPLETED] = SCHEMA_VERSION, time, time, version, 1
  a[IS_LOW] = 1
  a[MONTH], a[MONTHS_PAST], a[ANNOUNCED], a[PENDING], a[STRAGGLED] = month_of(time), {}, {}, {}, {}
  a[OWN_LIMIT], a[LOTS] = {}, pack({0, 0, 0, 0, 0, 0, 0, 0})
  return a
end
