-- Lends tokens of one group to one session, and takes what it says.
--
-- A request is numbers in one text: generation, seq, burst in seconds, then for each of the three metrics what was granted,
-- charged beyond, returned and used, ever, then what is at hand, wanted and needed, and limits to start with; at
-- the end what the used tokens cost, where that is told.

local TOKENS_MAX = 1125899906842624 -- 2^50
local RATE_SHAPE = '^' .. string.rep('(%d+) ', 26) .. '(%d+) ?(%d*)$'
local METRICS = {'granted', 'debt', 'returned', 'used', 'at hand', 'want', 'need', 'seed'}

-- A request in its parts, or nothing and why not.
local function read_rate(text)
  local texts = {string.match(text, RATE_SHAPE)}
  if #texts == 0 or #text > 600 then return nil, 'malformed: request' end
  local q = {generation = tonumber(texts[1]), seq = tonumber(texts[2]), burst = tonumber(texts[3])}
  for place, name in ipairs(METRICS) do
    local three = {}
    for metric = 1, 3 do
      local tokens = tonumber(texts[place * 3 + metric])
      if tokens >= (place >= 6 and LIMIT_MAX or TOKENS_MAX) then return nil, 'malformed: ' .. name end
      three[metric] = tokens
    end
    q[name] = three
  end
  q.at_hand, q.priced = q['at hand'], tonumber(texts[28]) or 0
  for metric = 1, 3 do
    if q.want[metric] < q.need[metric] then return nil, 'malformed: need above want' end
  end
  if q.priced >= PRICED_MAX then return nil, 'malformed: priced' end
  for metric = 1, 3 do
    if q.granted[metric] + q.debt[metric] < q.returned[metric] then
      return nil, 'malformed: returned more than was granted or charged'
    end
  end
  if q.burst < 1 or q.burst > 3600 then return nil, 'malformed: burst seconds' end
  if q.generation >= 4294967296 then return nil, 'malformed: generation' end
  if q.seq >= 9007199254740992 then return nil, 'malformed: seq' end
  return q
end

-- Empty buckets of the request's own limits.
local function seeded(q, time)
  local state = {time, q.burst, 1, false, q.seed[1], q.seed[2], q.seed[3]}
  for place = TOKENS, ACTIVE do state[place] = 0 end
  state[MINUTE_NOW], state[MINUTES_ENDED], state[ACTIVE] = floor(time / MINUTE), {}, {}
  return state
end

-- Takes tokens of chunks back out of a bucket, while others are still out: the level stays at what is lent, but for what
-- drains within a chunk's settling time.
local function take_out(state, metric, tokens, lent)
  local now_tokens, now_parts = level(state, metric)
  local bound, bound_parts = less(lent, 0, flow(limit_of(state, metric), CHUNK_SETTLE))
  if is_lower(now_tokens, now_parts, bound, bound_parts) then bound, bound_parts = now_tokens, now_parts end
  local rest, rest_parts = less(now_tokens, now_parts, tokens, 0)
  if is_lower(rest, rest_parts, bound, bound_parts) then rest, rest_parts = bound, bound_parts end
  set_level(state, metric, rest, rest_parts)
end

-- Tokens that drain in some milliseconds, rounded up.
local function drained(limit, millis)
  local tokens, parts = flow(limit, millis)
  return parts > 0 and tokens + 1 or tokens
end

-- Gives back first and charges then, so that an empty bucket swallows no charge.
local function apply_news(state, borrower, news, sums)
  for metric = 1, 3 do
    local place, lent = metric - 1, sums.lent[metric]
    for chunk = 1, #borrower[CHUNKS], 4 do lent = lent + borrower[CHUNKS][chunk + metric] end
    take_out(state, place, news.back[metric], lent)
    charge(state, place, -max(0, news.late[metric] - drained(limit_of(state, place), news.age)))
    charge(state, place, -news.refund[metric])
    charge(state, place, news.charge[metric])
  end
end

-- At least the need, where it fits in every bucket; then the want, up to a fair share of the room. Where that leaves little
-- out, it is lent for longer. Returns the tokens, how long they live, and whether they are few.
local function lend_tokens(state, borrower, q, sums)
  local room, long, short = {}, {}, {}
  for metric = 1, 3 do
    room[metric] = fits(state, metric - 1)
    if room[metric] < q.need[metric] then return {0, 0, 0}, CHUNK_LIFE, false end
  end
  local is_small, now = true, state[RATE_NOW]
  for metric = 1, 3 do
    local share = floor(room[metric] / ((sums.borrowers + 1) * 2))
    long[metric] = max(min(q.want[metric] * SMALL_LIVES, share), q.need[metric])
    short[metric] = max(min(q.want[metric], share), q.need[metric])
    local out = long[metric] + sums.at_hand[metric]
    if now < borrower[UNTIL] then out = out + borrower[AT_HAND + metric - 1] end
    is_small = is_small and out <= drained(limit_of(state, metric - 1), CHUNK_LIFE)
  end
  local tokens, life = short, CHUNK_LIFE
  if is_small then tokens, life = long, CHUNK_LIFE_SMALL end
  for metric = 1, 3 do charge(state, metric - 1, tokens[metric]) end
  return tokens, life, is_small
end

-- What of newly reported usage is paid for already, from what is left of this minute's reservation.
local function cover_priced(state, priced)
  local reserved = state[RESERVED]
  if not reserved then return 0 end
  local covered = max(0, min(priced, reserved[PER_MINUTE] - reserved[COVERED]))
  reserved[COVERED] = reserved[COVERED] + covered
  return covered
end

-- Tokens that count for the limit where only a part of what they cost was covered, in whole 1,024ths, rounded up.
local function uncovered(tokens, priced, covered)
  local excess = priced - covered
  if priced <= excess then return tokens end
  local rest = excess * 1024 % priced
  local parts = (excess * 1024 - rest) / priced + (rest > 0 and 1 or 0)
  return floor(tokens / 1024) * parts + math.ceil(tokens % 1024 * parts / 1024)
end

-- Takes a newer request of a session.
local function take_rate(state, borrower, group, session, q)
  local now = state[RATE_NOW]
  settle(borrower, now - CHUNK_SETTLE)
  local news = take_news(borrower, q, now)
  if q.burst ~= state[BURST] then
    set_limits(state, {state[LIMITS], state[LIMITS + 1], state[LIMITS + 2]}, q.burst)
  end
  local sums = sum_up(state, session)
  apply_news(state, borrower, news, sums)
  local covered = cover_priced(state, news.priced)
  -- The envelope of requests is fixed: no step waits for its minutes.
  if group ~= 'requests' then
    for metric = 0, 2 do
      local tokens = uncovered(news.used[metric + 1], news.priced, covered)
      state[MINUTE_USED + metric] = state[MINUTE_USED + metric] + tokens
    end
  end
  local tokens, life, is_small = lend_tokens(state, borrower, q, sums)
  borrow(borrower, tokens, is_small, now, now + life)
  table.insert(state[ACTIVE], active(session, borrower))
  return tokens, life, covered
end

local function rate_reply(state, borrower, q, tokens, life, covered)
  local granted = borrower or {0, 0, 0, 0, 0}
  local answer = {
    q.generation, q.seq, granted[B_GRANTED], granted[B_GRANTED + 1], granted[B_GRANTED + 2], tokens[1], tokens[2], tokens[3],
    life, state[LIMITS], state[LIMITS + 1], state[LIMITS + 2], state[BURST],
  }
  for metric = 0, 2 do
    local whole, parts = level(state, metric)
    table.insert(answer, whole)
    table.insert(answer, parts)
  end
  for _, last in ipairs({state[VERSION], state[MINUTE_NOW], state[STATES], state[MINUTES_ENDED]}) do
    table.insert(answer, last)
  end
  local reserved = state[RESERVED]
  if reserved then
    for _, last in ipairs({reserved[PER_MINUTE], reserved[MORE], reserved[MORE + 1], reserved[MORE + 2], covered}) do
      table.insert(answer, last)
    end
  end
  return answer
end

-- Takes one request of one session. A repeated, reordered or late one changes nothing and brings nothing. Also returns what a
-- reservation pays for of the usage that is told.
function lend_rate(account, session, group, text, time)
  local q, refusal = read_rate(text)
  if not q then return refusal end
  local state = load_group(account, group) or seeded(q, time)
  local kept = load_borrower(account, group, session)
  local known = remembered(kept, state[TURNED])
  if known and q.generation < known[B_GENERATION] then return 'no such session' end
  local is_new = not known or known[B_GENERATION] < q.generation or known[B_SEQ] < q.seq
  tick_group(state, time)
  local borrower, tokens, life = remembered(known, state[TURNED]), {0, 0, 0}, CHUNK_LIFE
  local covered = 0
  if is_new then
    if not borrower or borrower[B_GENERATION] ~= q.generation then borrower = new_borrower(q) end
    tokens, life, covered = take_rate(state, borrower, group, session, q)
  end
  local answer = rate_reply(state, borrower, q, tokens, life, covered)

  save_group(account, group, state)
  if is_new then save_borrower(account, group, session, borrower) end
  return answer, covered
end
