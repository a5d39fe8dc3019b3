-- Users with a spend cap: each has a state of its own beside its account's, which lends what the cap leaves of the month.
--
-- It is made for the first message about it. Its name is the account's and its own with a slash between, which no
-- account's name has. Its keys go when it was silent for so long that no month in which it spent anything still runs.

local CAP_SHAPE, CAP_BYTES = '<' .. string.rep('i8', 4), 4 * 8

local function account_of(name)
  return string.match(name, '^([^/]*)/')
end

-- A user of whom nothing was heard yet: credit without end, so that the cap alone counts. It is the limit of the month.
local function new_user(time)
  local a = new_account(time, 0)
  a[LINE], a[LIMIT_KIND] = USD, PAUSES
  return a
end

-- Takes the cap of terms that are not older than those that were heard of.
local function take_cap(a, version, usd, nanos, returns)
  if version < a[TERMS_VERSION] then return end
  -- When silent sessions end follows from it.
  if a[RETURNS] ~= returns then a[DUE_AT] = 0 end
  a[TERMS_VERSION], a[LIMIT], a[LIMIT + 1], a[RETURNS] = version, usd, nanos, returns
end

local function save_user(name, account, is_new)
  local users = tag .. 'u:' .. account
  if is_new then
    call('ZADD', users, 0, string.sub(name, #account + 2))
    -- For each that comes, two are looked at, so that names whose keys are gone do not pile up.
    for _, user in ipairs(call('ZRANDMEMBER', users, 2)) do
      if call('EXISTS', tag .. 'a:' .. account .. '/' .. user) == 0 then call('ZREM', users, user) end
    end
  end
  for _, key in ipairs({'a:', 's:', 'x:', 'y:', 'z:', 'g:'}) do call('PEXPIRE', tag .. key .. name, USER_KEEP) end
end

-- One request about a user: the numbers of a sync, then the cap: the version of the terms, USD, nano-USD, and 1 where rights
-- of silent sessions come back soon.
function visit_user(name, session, text, time)
  local account = account_of(name)
  if not load_account(account) then return 'no such account' end
  if #text ~= REQUEST_BYTES + CAP_BYTES then return {{ok = 'malformed: cap'}} end
  local version, usd, nanos, returns = struct.unpack(CAP_SHAPE, text, REQUEST_BYTES + 1)
  if min(version, usd, nanos, returns) < 0 or version >= 9007199254740992 or returns > 1 or nanos >= USD
    or is_less(USD, 0, usd, nanos) then
    return {{ok = 'malformed: cap'}}
  end
  local known = load_account(name)
  local a = known or new_user(time)
  take_cap(a, version, usd, nanos, returns)
  local answer, refusal = sync(name, a, session, string.sub(text, 1, REQUEST_BYTES), time)
  if answer then save_user(name, account, not known) end
  return {answer or {ok = refusal}}
end
