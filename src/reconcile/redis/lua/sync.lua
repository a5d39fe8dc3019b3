-- The one hot operation: take what a session reports, lend what it needs, tell it how things stand.
--
-- Everything is decided first and written last. Requests and answers are numbers packed in a text. A refusal is a text
-- in place of an answer, and nothing was changed.

local COUNTER_MAX = 1125899906842624 -- 2^50
local KNOWN_MAX = 4503599627370496 -- 2^52
local EXACT_USD, EXACT_NANOS = 4503599, 627370496 -- 2^52
local SUM_USD, SUM_NANOS = 2305843009, 213693952 -- 2^61
local ROUNDING_MARGIN = 8192

-- Of a request and of a reply: whole numbers of eight bytes.
local REQUEST_SHAPE, REQUEST_BYTES, REPLY_SHAPE = '<' .. string.rep('i8', 13), 13 * 8, '<' .. string.rep('i8', 26)
-- Which number of a request is out of its bounds: the slow way, for what should not happen. They are told in this order,
-- money first.
local function why_malformed(numbers)
  local NAMES = {'generation', 'seq', 'used', 'returned', 'granted', 'reclaimed', 'want', 'need', 'month',
    'used before this month', 'terms', 'silence', 'flags'}
  local MONEY = {3, 4, 5, 6, 7, 8, 10}
  local exact = 9007199254740992
  local bounds = {4294967296, exact, COUNTER_MAX, COUNTER_MAX, KNOWN_MAX, KNOWN_MAX, COUNTER_MAX, COUNTER_MAX, 4294967296,
    COUNTER_MAX, exact, exact, 8}
  local function is_wrong(place) return numbers[place] < 0 or numbers[place] >= bounds[place] end
  for _, place in ipairs(MONEY) do
    if is_wrong(place) then return 'malformed: ' .. NAMES[place] end
  end
  for place, name in ipairs(NAMES) do
    if is_wrong(place) then return 'malformed: ' .. name end
  end
end

-- A request in its parts, or nothing and why not.
local function read_request(text)
  if #text ~= REQUEST_BYTES then return nil, 'malformed: request' end
  local generation, seq, used, returned, granted, reclaimed, want, need, month, before, terms, silence, flags =
    struct.unpack(REQUEST_SHAPE, text)
  local money = max(used, returned, want, need, before)
  local least = min(generation, seq, used, returned, granted, reclaimed, want, need, month, before, terms, silence, flags)
  if least < 0 or money >= COUNTER_MAX or max(granted, reclaimed) >= KNOWN_MAX or max(generation, month) >= 4294967296
    or max(seq, terms, silence) >= 9007199254740992 or flags >= 8 then
    return nil, why_malformed({struct.unpack(REQUEST_SHAPE, text)})
  end
  if want < need then return nil, 'malformed: need above want' end
  if used < before then return nil, 'malformed: used before this month above used' end
  return {
    generation = generation, seq = seq, used = used, returned = returned, granted = granted, reclaimed = reclaimed,
    want = want, need = need, month = month, before = before, terms = terms, silence = silence,
    declares = flags % 2 == 1, bye = flags % 4 > 1, was_answered = flags > 3,
  }
end

local function lacks(record, q)
  return record[SPENT] < q.used or record[RETURNED] < q.returned or record[GRANTED] < q.granted
    or record[RECLAIMED] < q.reclaimed
end

-- Why no record may be opened, or nothing. This generation may have been counted into the pool already.
local function why_not_opened(visit, q)
  visit.generations = generations(visit)
  if q.was_answered and TOMBSTONES * 1000000 < q.silence * 2 then return 'no such session' end
  for _, generation in ipairs(visit.generations) do
    if q.generation < generation then return 'no such session' end
  end
  visit.known = call('HLEN', tag .. 's:' .. visit.account)
  if visit.known >= SESSIONS_MAX and call('ZCARD', tag .. 'z:' .. visit.account) == 0 then return 'crowded' end
end

-- What the record becomes, with what was out of order on the way; nothing where the request has nothing new to say to it.
-- The second result is a refusal.
local function merged(visit, q)
  local old = visit.record
  if old and old[STAGE] == CLOSED then
    local borrows = old[SEQ] < q.seq and q.want > 0 and not q.bye and not q.declares
    return nil, (lacks(old, q) or borrows) and 'no such session' or nil
  end
  if old and q.seq <= old[SEQ] then return nil, lacks(old, q) and 'superseded' or nil end
  if not old then
    local refusal = why_not_opened(visit, q)
    if refusal then return nil, refusal end
    old = {0, 0, 0, 0, 0, 0, 0, 0, 0, OPEN, 0}
  end
  local used, returned, reclaimed = max(old[SPENT], q.used), max(old[RETURNED], q.returned), max(old[RECLAIMED], q.reclaimed)
  local known = max(old[GRANTED], q.granted)
  local granted = max(known, used + returned + reclaimed)
  local record = {q.seq, granted, used, returned, reclaimed, old[RECORD_MONTH], old[BEFORE], old[EXPIRES], old[TTL], OPEN, 0}
  return {
    old = old, record = record, spent = used - old[SPENT], beyond = granted - known, readopted = known - old[GRANTED],
    lent = outstanding(record) - outstanding(old),
  }
end

local function is_above_sums(a, place, nanos)
  local usd, rest = normal(a[place], a[place + 1] + nanos)
  return is_less(SUM_USD, SUM_NANOS, usd, rest)
end

-- Divides newly reported usage between the month that the request names and those before it, and books it.
--
-- A month that the store has not reached, or none, is the store's month: its clock is the one that counts.
local function book_months(visit, old, record, q, spent)
  local account, a, events = visit.account, visit.a, visit.events
  local is_unknown = q.month == 0 or a[MONTH] < q.month
  local month = is_unknown and a[MONTH] or q.month
  if month < old[RECORD_MONTH] then
    -- The session had moved on already: all of this came late.
    add_to_month(account, a, events, month, spent)
    record[BEFORE] = old[BEFORE] + spent
    return trim_months(a)
  end
  local is_same = month == old[RECORD_MONTH]
  local known_before = is_same and old[BEFORE] or old[SPENT]
  local late = min(max(0, (is_unknown and 0 or q.before) - known_before), spent)
  local earlier = old[RECORD_MONTH]
  if is_same or earlier == 0 then earlier = previous_month(month) end
  add_to_month(account, a, events, month, spent - late)
  add_to_month(account, a, events, earlier, late)
  trim_months(a)
  record[RECORD_MONTH], record[BEFORE] = month, known_before + late
end

-- What may be lent at all: the least of credit and the month's room. Negative where too much is out.
local function room(a)
  if a[SUSPENDED] == 1 then return 0, 0 end
  local total_usd, total_nanos = credits_and_line(a)
  local margin = 0
  if is_less(EXACT_USD, EXACT_NANOS, total_usd, total_nanos) or is_less(EXACT_USD, EXACT_NANOS, a[USED], a[USED + 1]) then
    margin = ROUNDING_MARGIN
  end
  local usd, nanos = normal(total_usd - a[USED] - a[LEASED], total_nanos - a[USED + 1] - a[LEASED + 1] - margin)
  if a[LIMIT_KIND] ~= PAUSES then return usd, nanos end
  local month_usd, month_nanos = normal(
    a[LIMIT] - a[MONTH_USED] - a[LEASED], a[LIMIT + 1] - a[MONTH_USED + 1] - a[LEASED + 1])
  if is_less(month_usd, month_nanos, usd, nanos) then return month_usd, month_nanos end
  return usd, nanos
end

-- min(room, max(need - out, min(want - out, room / 2n))), where both what is lent at once for a wish and what a session has
-- beyond its need are bounded; nothing where the need is not reached, which is true then.
local function lend(visit, record, q)
  local a = visit.a
  local out, usd, nanos = outstanding(record), room(a)
  if usd < 0 then usd, nanos = 0, 0 end
  local bound = min(LEASE_MAX, divided(usd, nanos, LEASE_PARTS))
  local need = q.need - out
  local wish = min(need + min(q.want - q.need, bound), bound)
  local share = divided(usd, nanos, visit.holders * 2)
  local counter_left = COUNTER_MAX - 1 - record[GRANTED]
  local most = max(0, min(max(need, min(wish, share)), near(usd, nanos), counter_left))
  local is_hungry = most < need
  if not is_hungry then
    record[GRANTED] = record[GRANTED] + most
    add(a, LEASED, most)
  elseif a[SUSPENDED] == 0 and exceeds(a, LEASED, out) then
    a[STARVING_UNTIL] = a[NOW] + STARVING
  end
  return is_hungry
end

-- Sessions whose lease lives, the asker among them.
local function holders(visit)
  local live = call('ZCOUNT', tag .. 'x:' .. visit.account, '(' .. string.format('%.0f', visit.a[NOW]), '+inf')
  local old = visit.record
  if old and old[STAGE] == OPEN and visit.a[NOW] < old[EXPIRES] then return live end
  return live + 1
end

-- Less is left than some requests of each holder, like the one that waits or typical ones. What the asker lacks is what it had
-- too little for its need: what running requests hold is lent already and says nothing of the next one.
local function is_scarce(visit)
  local usd, nanos = room(visit.a)
  return divided(usd, nanos, visit.holders * SCARCE_REQUESTS) < max(visit.lacking, REQUEST_TYPICAL)
end

-- Books what was reported and lends what is wished for. True where the need was not met.
local function take(visit, q, news)
  local a, record = visit.a, news.record
  book_months(visit, news.old, record, q, news.spent)
  add(a, BEYOND_GRANT, news.beyond)
  if news.beyond > 0 then
    table.insert(visit.events, {'what', 'overrun', 'amount', string.format('%.0f', news.beyond)})
  end
  add(a, READOPTED, news.readopted)
  add(a, USED, news.spent)
  add(a, LEASED, news.lent)
  a[OPS] = a[OPS] + 1
  visit.record = record
  if q.bye then
    take_back(a, record, CLOSED)
    return false
  end
  local is_hungry = not q.declares and lend(visit, record, q)
  visit.is_scarce = is_scarce(visit)
  local ttl = visit.is_scarce and TTL_SCARCE or TTL_HEALTHY
  if record[EXPIRES] <= a[NOW] + ttl * 3 / 4 then 
    record[EXPIRES], record[TTL], visit.is_renewed = a[NOW] + ttl, ttl, true
  end
  return is_hungry
end

-- Until the next sync.
local function next_sync(visit, usd, nanos)
  local a, wait, spacing = visit.a, NEXT_SYNC_HEALTHY, SYNC_SPACING_HEALTHY
  if visit.is_scarce then
    spacing = SYNC_SPACING
    local others_hold = a[SUSPENDED] == 0 and exceeds(a, LEASED, outstanding(visit.record))
    local helps = usd > 0 or usd == 0 and nanos > 0 or others_hold
    wait = helps and NEXT_SYNC_SCARCE or NEXT_SYNC_BLOCKED
  end
  return min(max(wait, spacing * visit.holders), NEXT_SYNC_MAX)
end

-- The numbers, and then the terms as written where the asker knows others.
local function reply(visit, q, is_hungry)
  local a, record = visit.a, visit.record
  local usd, nanos = room(a)
  if usd < 0 then usd, nanos = 0, 0 end
  local is_empty = usd == 0 and nanos == 0
  local ttl = visit.is_scarce and TTL_SCARCE or TTL_HEALTHY
  local left = record[STAGE] == OPEN and max(0, record[EXPIRES] - a[NOW]) or 0
  local since = a[PENDING][SINCE]
  local numbers = struct.pack(
    REPLY_SHAPE, q.generation, record[SEQ], record[GRANTED], record[RECLAIMED], min(ttl, left), usd, nanos,
    (is_hungry or is_empty) and 1 or 0, (not is_hungry and a[NOW] < a[STARVING_UNTIL]) and 1 or 0,
    a[MONTH], max(0, month_end(a[MONTH]) - a[NOW]), a[TERMS_VERSION], a[OPS], next_sync(visit, usd, nanos),
    since and max(0, a[NOW] - since) or -1, a[CREDITS], a[CREDITS + 1], a[GIVEN], a[GIVEN + 1],
    a[HAS_BOUGHT], a[USED], a[USED + 1], a[MONTH_USED], a[MONTH_USED + 1], a[PAID], a[PAID + 1])
  if q.terms == a[TERMS_VERSION] then return numbers end
  -- A user has none of its own.
  return numbers .. (call('GET', tag .. 'c:' .. visit.account) or '')
end

-- Writes the asker's record.
local function save_record(visit)
  local account, member, record = visit.account, visit.member, visit.record
  call('HSET', tag .. 's:' .. account, member, pack(record))
  if record[STAGE] == OPEN then
    if visit.is_renewed then
      call('ZADD', tag .. 'x:' .. account, record[EXPIRES], member)
      call('ZADD', tag .. 'y:' .. account, record[EXPIRES] + record[TTL], member)
    end
    if visit.was_ended then call('ZREM', tag .. 'z:' .. account, member) end
  else
    call('ZREM', tag .. 'x:' .. account, member)
    call('ZREM', tag .. 'y:' .. account, member)
    call('ZADD', tag .. 'z:' .. account, record[ENDED], member)
  end
  if visit.generations then
    -- Some of them may have been retired by this very call.
    local kept = {}
    for _, generation in ipairs(visit.generations) do
      if not visit.gone[member_of(visit.session, generation)] then table.insert(kept, generation) end
    end
    table.insert(kept, visit.generation)
    call('HSET', tag .. 'g:' .. account, visit.session, pack(kept))
  end
end

-- Takes one request of one session. A repeated, reordered or late one changes nothing that counts. The answer, or nothing
-- and a refusal.
function sync(account, a, session, text, time)
  local q, refusal = read_request(text)
  if not q then return nil, refusal end
  local member = member_of(session, q.generation)
  local visit = {
    account = account, a = a, session = session, generation = q.generation, member = member, gone = {}, ended = {}, events = {},
  }
  local kept = call('HGET', tag .. 's:' .. account, member)
  visit.record = kept and unpack_one(kept)
  visit.was_ended = kept and visit.record[STAGE] ~= OPEN
  local news
  news, refusal = merged(visit, q)
  if refusal then return nil, refusal end
  if news and (is_above_sums(a, USED, news.spent) or is_above_sums(a, LEASED, news.lent)) then
    return nil, 'malformed: usage or grants above what an account can have'
  end
  tick(account, a, time, visit.events)
  if visit.generations then make_way(visit) end
  reap(visit)
  visit.holders = holders(visit)
  visit.lacking = q.need - outstanding(news and news.record or visit.record)
  local is_hungry = news and take(visit, q, news)
  announce(account, a, visit.events)
  if visit.is_scarce == nil then visit.is_scarce = is_scarce(visit) end
  local answer = reply(visit, q, is_hungry)
  if news then note_due(a, visit.record) end

  save_account(account, a)
  if news then save_record(visit) end
  if #visit.gone > 0 then save_gone(visit) end
  save_ended(visit)
  save_history(account, visit.events)
  save_events(account, a, visit.events)
  return answer
end
