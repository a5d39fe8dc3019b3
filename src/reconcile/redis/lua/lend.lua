-- Lends tokens of one group to one session, and takes what it says.
--
-- A request is numbers packed in a text: generation, seq, burst in seconds, then for each of the three metrics what was
-- granted, charged beyond, returned and used, ever, then what is at hand, wanted and needed, and limits to start with; at
-- the end what the used tokens cost.

local TOKENS_MAX = 1125899906842624 -- 2^50
local RATE_SHAPE, RATE_BYTES = '<' .. string.rep('i8', 28), 28 * 8
-- Of a reply, without the minutes that ended.
local RATE_REPLY = '<' .. string.rep('i8', 27)
local METRICS = {'granted', 'debt', 'returned', 'used', 'at hand', 'want', 'need', 'seed'}

-- Which number of a request is out of its bounds: the slow way, for what should not happen.
local function why_out_of_bounds(q)
  for place = Q_GRANTED, Q_SEED + 2 do
    if q[place] < 0 or q[place] >= (place >= Q_WANT and LIMIT_MAX or TOKENS_MAX) then
      return 'malformed: ' .. METRICS[floor((place - 1) / 3)]
    end
  end
  return 'malformed: request'
end

-- A request's numbers, or nothing and why not.
local function read_rate(text)
  if #text ~= RATE_BYTES then return nil, 'malformed: request' end
  local q = {struct.unpack(RATE_SHAPE, text)}
  if min(unpack(q, 1, Q_PRICED)) < 0 or max(unpack(q, Q_GRANTED, Q_AT_HAND + 2)) >= TOKENS_MAX
    or max(unpack(q, Q_WANT, Q_SEED + 2)) >= LIMIT_MAX then
    return nil, why_out_of_bounds(q)
  end
  if q[Q_WANT] < q[Q_NEED] or q[Q_WANT + 1] < q[Q_NEED + 1] or q[Q_WANT + 2] < q[Q_NEED + 2] then
    return nil, 'malformed: need above want'
  end
  if q[Q_PRICED] >= PRICED_MAX then return nil, 'malformed: priced' end
  for metric = 0, 2 do
    if q[Q_GRANTED + metric] + q[Q_DEBT + metric] < q[Q_RETURNED + metric] then
      return nil, 'malformed: returned more than was granted or charged'
    end
  end
  if q[Q_BURST] < 1 or q[Q_BURST] > 3600 then return nil, 'malformed: burst seconds' end
  if q[Q_GENERATION] >= 4294967296 then return nil, 'malformed: generation' end
  if q[Q_SEQ] >= 9007199254740992 then return nil, 'malformed: seq' end
  return q
end

-- Empty buckets of the request's own limits.
local function seeded(q, time)
  local state = {time, q[Q_BURST], 1, false, q[Q_SEED], q[Q_SEED + 1], q[Q_SEED + 2]}
  for place = TOKENS, ACTIVE do state[place] = 0 end
  state[MINUTE_NOW], state[MINUTES_ENDED], state[ACTIVE] = floor(time / MINUTE), {}, {}
  return state
end

-- Takes tokens of chunks back out of a bucket, while `lent` others are still out: the level stays at what is lent, but for
-- what drains within a chunk's settling time.
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

-- What of a metric is lent and may come back.
local function lent_to_all(borrower, sums, metric)
  local lent, chunks = sums[LENT + metric], borrower[CHUNKS]
  for chunk = 2 + metric, #chunks, 4 do lent = lent + chunks[chunk] end
  return lent
end

-- Gives back first and charges then, so that an empty bucket swallows no charge. Levels are those of now afterwards.
local function apply_news(state, borrower, news, sums)
  for metric = 0, 2 do
    local back, late, refund = news[BACK + metric], news[LATE_BACK + metric], news[REFUND + metric]
    if back > 0 then take_out(state, metric, back, lent_to_all(borrower, sums, metric)) end
    if late > 0 then charge(state, metric, -max(0, late - drained(limit_of(state, metric), news[AGE]))) end
    if refund > 0 then charge(state, metric, -refund) end
    charge(state, metric, news[CHARGED + metric])
  end
end

-- At least the need, where it fits in every bucket; then the want, up to a fair share of the room. As many lives' worth of it
-- as leave little out are lent for longer. Returns the tokens, how long they live, and whether they are few.
local function lend_tokens(state, borrower, q, sums)
  local shares, out, brought, times = {0, 0, 0}, {}, {}, SMALL_LIVES
  local is_out = state[RATE_NOW] < borrower[UNTIL] + SMALL_SETTLE
  for metric = 0, 2 do
    local want, limit = q[Q_WANT + metric], limit_of(state, metric)
    local hands, life = sums[HANDS + metric], 0
    if is_out then hands = hands + borrower[AT_HAND + metric] end
    if want > 0 then
      local room = fits(state, metric, limit)
      if room < q[Q_NEED + metric] then return {0, 0, 0}, CHUNK_LIFE, false end
      shares[metric + 1] = floor(room / ((sums[BORROWERS] + 1) * 2))
    end
    if want > 0 or hands > 0 then life = flow(limit, CHUNK_LIFE) end
    if want > 0 then times = min(times, floor((life - hands) / want)) end
    out[metric + 1], brought[metric + 1] = hands, life
  end
  times = max(times, 1)
  local long, short, is_small = {0, 0, 0}, {0, 0, 0}, true
  for metric = 1, 3 do
    local want = q[Q_WANT + metric - 1]
    if want > 0 then
      local need, share = q[Q_NEED + metric - 1], shares[metric]
      long[metric], short[metric] = max(min(want * times, share), need), max(min(want, share), need)
    end
    is_small = is_small and out[metric] + long[metric] <= brought[metric]
  end
  local tokens, life = short, CHUNK_LIFE
  if is_small then tokens, life = long, CHUNK_LIFE_SMALL end
  for metric = 0, 2 do state[TOKENS + metric] = state[TOKENS + metric] + tokens[metric + 1] end
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
  if q[Q_BURST] ~= state[BURST] then
    set_limits(state, {state[LIMITS], state[LIMITS + 1], state[LIMITS + 2]}, q[Q_BURST])
  end
  local sums = sum_up(state, session)
  apply_news(state, borrower, news, sums)
  local covered = cover_priced(state, news[PRICED])
  -- The envelope of requests is fixed: no step waits for its minutes.
  if group ~= 'requests' then
    for metric = 0, 2 do
      local tokens = news[SETTLED + metric]
      if covered > 0 then tokens = uncovered(tokens, news[PRICED], covered) end
      state[MINUTE_USED + metric] = state[MINUTE_USED + metric] + tokens
    end
  end
  local tokens, life, is_small = lend_tokens(state, borrower, q, sums)
  borrow(borrower, tokens, is_small, now, now + life)
  table.insert(state[ACTIVE], active(session, borrower))
  return tokens, life, covered
end

-- The numbers, the minutes that ended, and then the adaptive states as written, where there are any.
local function rate_reply(state, borrower, q, tokens, life, covered)
  local granted, ended, reserved = borrower or {0, 0, 0, 0, 0}, state[MINUTES_ENDED], state[RESERVED] or {-1, 0, 0, 0}
  local a, a_parts = level(state, 0)
  local b, b_parts = level(state, 1)
  local c, c_parts = level(state, 2)
  local numbers = struct.pack(
    RATE_REPLY, q[Q_GENERATION], q[Q_SEQ], granted[B_GRANTED], granted[B_GRANTED + 1], granted[B_GRANTED + 2], tokens[1],
    tokens[2], tokens[3], life, state[LIMITS], state[LIMITS + 1], state[LIMITS + 2], state[BURST], a, a_parts, b, b_parts,
    c, c_parts, state[VERSION], reserved[PER_MINUTE], reserved[MORE], reserved[MORE + 1], reserved[MORE + 2], covered,
    state[MINUTE_NOW], #ended / 4)
  if #ended > 0 then numbers = numbers .. struct.pack('<' .. string.rep('i8', #ended), unpack(ended)) end
  return state[STATES] and numbers .. state[STATES] or numbers
end

-- Takes one request of one session. A repeated, reordered or late one changes nothing and brings nothing. The answer and
-- what a reservation pays for of the usage that is told, or nothing and a refusal.
function lend_rate(account, session, group, text, time)
  local q, refusal = read_rate(text)
  if not q then return nil, refusal end
  local key, session_key = group_key(account, group), borrower_key(account, group, session)
  local state = load_group(key) or seeded(q, time)
  local kept = load_borrower(session_key)
  local heard_before = kept and kept[HEARD]
  local known = remembered(kept, state[TURNED])
  if known and q[Q_GENERATION] < known[B_GENERATION] then return nil, 'no such session' end
  local is_new = not known or known[B_GENERATION] < q[Q_GENERATION] or known[B_SEQ] < q[Q_SEQ]
  tick_group(state, time)
  local borrower, tokens, life = remembered(known, state[TURNED]), {0, 0, 0}, CHUNK_LIFE
  local covered = 0
  if is_new then
    if not borrower or borrower[B_GENERATION] ~= q[Q_GENERATION] then borrower = new_borrower(q) end
    tokens, life, covered = take_rate(state, borrower, group, session, q)
  end
  local answer = rate_reply(state, borrower, q, tokens, life, covered)

  save_group(key, state)
  if is_new then save_borrower(session_key, borrower, heard_before) end
  return answer, covered
end
