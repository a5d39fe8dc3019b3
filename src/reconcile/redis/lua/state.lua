-- What is kept of an account and of a session, and where it stands.

-- Places in an account's state. An amount takes two places.
local SCHEMA, CREATED, NOW, OPS, TERMS_VERSION, CREDIT_VERSION = 1, 2, 3, 4, 5, 6
-- What all credits come to, and what of that was free of charge.
local CREDITS, GIVEN = 7, 9
local USED, LEASED, RETIRED = 11, 13, 15
local MONTH, MONTH_USED, MONTHS_PAST = 17, 18, 20
local STARVING_UNTIL, ANNOUNCED, DEPLETED = 21, 22, 23
local BEYOND_GRANT, READOPTED, REAPED = 24, 26, 28
local ATTEMPT, DECLINES, RETRY_AT, BOUGHT, PENDING = 30, 31, 32, 33, 35
-- Of the terms, what the law looks at. The monthly limit is the one in force: a postpaid account's tier bounds it.
local TERMS, SUSPENDED, RETURNS, LINE, LIMIT_KIND, LIMIT = 36, 36, 37, 38, 40, 41
local CAN_BUY, MINIMUM, AMOUNT, IS_CAPPED, CAP, TERMS_END = 43, 44, 46, 48, 49, 50
-- No record ends before this; 0 where that is not known.
local DUE_AT = 51

-- What was paid, the tier, and whether the balance alert has no more to tell. USED at TIER_AT or above may be another tier.
local PAID, TIER, TIER_AT, IS_LOW = 52, 54, 55, 57
-- More of the terms. OVERRIDE is -1 where the tier is derived.
local MORE_TERMS, IS_BILLABLE, OVERRIDE, HAS_ALERT, ALERT, PERCENTS, IS_POSTPAID = 58, 58, 59, 60, 61, 63, 64
local MORE_TERMS_END = 64
-- A postpaid account's own limit, as its kind, USD and nano-USD; else empty.
local OWN_LIMIT = 65
-- Packed, because few calls look at it: USD and nano-USD of credits that were given, bought, adjusted and refunded. Whether
-- anything was bought.
local LOTS, HAS_BOUGHT = 66, 67
-- Lines of history, ever, and late usage without a line.
local HISTORY, STRAGGLED = 68, 69
local LAST_PLACE = 69

-- Places in STRAGGLED, which is empty where there is none.
local LATE_MONTH, LATE_SINCE, LATE_USED = 1, 2, 3

-- Values of LIMIT_KIND; a limit that only alerts is 2.
local PAUSES = 1

-- Places in PENDING, which is empty where no purchase is in flight.
local SINCE, KEY_VERSION, KEY_ATTEMPT, BUYS, DONE_AT = 1, 2, 3, 4, 6

-- Places in a session's record.
local SEQ, GRANTED, SPENT, RETURNED, RECLAIMED, RECORD_MONTH, BEFORE = 1, 2, 3, 4, 5, 6, 7
local EXPIRES, TTL, STAGE, ENDED = 8, 9, 10, 11
-- Values of STAGE.
local OPEN, SILENT, CLOSED = 0, 1, 2

local SCHEMA_VERSION = 2

-- An account's state, or nothing where there is none.
local function load_account(account)
  local text = call('GET', tag .. 'a:' .. account)
  if not text then return nil end
  local a = unpack_one(text)
  if a[SCHEMA] ~= SCHEMA_VERSION then error('version ' .. tostring(a[SCHEMA]) .. ' of an account') end
  return a
end

local function save_account(account, a)
  call('SET', tag .. 'a:' .. account, pack(a))
end

local function outstanding(record)
  return record[GRANTED] - record[SPENT] - record[RETURNED] - record[RECLAIMED]
end

-- Whether the server refused to write at all: OOM, READONLY, MISCONF. A key of a wrong type is something else.
local function is_refusal(text)
  local code = string.match(text, '^%-?(%u+) ')
  return code and code ~= 'ERR' and code ~= 'WRONGTYPE'
end

-- Runs `step` for an account. What redis refuses ends the script, before anything was written; a state that cannot be
-- read is this account's trouble alone. `pcall` gives redis errors as tables up to version 6 and as texts since.
local function guarded(step, ...)
  local done, result = pcall(step, ...)
  if done then return result end
  local text = type(result) == 'table' and tostring(result.err) or tostring(result)
  if is_refusal(text) then error({err = text}) end
  return 'unreadable: ' .. text
end
