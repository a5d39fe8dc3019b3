-- What is remembered of a session that borrows: cumulative counters, and the chunks that may still come back.
--
-- A session's record is a key of its own, which the server forgets long after the session fell silent. What the others
-- need to know of it while it borrows stands in the group's state: when it was heard, what it has at hand until when, and
-- its chunks.

-- Places in a request, which `lend_rate` takes; from the fourth on, what there is of each metric takes three.
local Q_GENERATION, Q_SEQ, Q_BURST, Q_GRANTED, Q_DEBT, Q_RETURNED, Q_USED = 1, 2, 3, 4, 7, 10, 13
local Q_AT_HAND, Q_WANT, Q_NEED, Q_SEED, Q_PRICED = 16, 19, 22, 25, 28

-- Places in a record.
local B_GENERATION, B_SEQ, B_GRANTED, B_DEBT, B_RETURNED, B_USED, HEARD = 1, 2, 3, 6, 9, 12, 15
local AT_HAND, UNTIL, LATE_AT, LATE, CHUNKS = 16, 19, 20, 21, 24
-- What the used tokens cost, where that was ever told.
local B_PRICED = 25
-- Chunks that may still come back, of one session; of more, the oldest counts as used. Each is its time and three numbers.
local CHUNKS_MAX = 8

local function borrower_key(account, group, session)
  return tag .. 'b:' .. #account .. ':' .. #group .. ':' .. account .. group .. session
end

local function load_borrower(key)
  local text = call('GET', key)
  return text and unpack_one(text)
end

-- The server forgets it after more than SESSION_KEEP, which it is told anew once a minute only.
local function save_borrower(key, borrower, heard_before)
  if heard_before and floor(heard_before / MINUTE) == floor(borrower[HEARD] / MINUTE) then
    call('SET', key, pack(borrower), 'KEEPTTL')
  else
    call('SET', key, pack(borrower), 'PX', SESSION_KEEP + 3 * MINUTE)
  end
end

-- The record, unless the turn of a minute found the session silent for too long.
local function remembered(borrower, turned)
  if borrower and turned - borrower[HEARD] <= SESSION_KEEP then return borrower end
end

-- A session that was not known before. One that knows of grants was forgotten here: its counters are adopted as they are,
-- and what it did in between is lost rather than counted twice.
local function new_borrower(q)
  local borrower = {q[Q_GENERATION], 0}
  for place = 3, LATE + 2 do borrower[place] = 0 end
  borrower[CHUNKS] = {}
  if q[Q_GRANTED] > 0 or q[Q_GRANTED + 1] > 0 or q[Q_GRANTED + 2] > 0 then
    -- Granted, charged beyond, returned and used stand in one order in both.
    for metric = 0, 11 do borrower[B_GRANTED + metric] = q[Q_GRANTED + metric] end
    if q[Q_PRICED] > 0 then borrower[B_PRICED] = q[Q_PRICED] end
  end
  return borrower
end

local function settle_oldest(borrower)
  local chunks = borrower[CHUNKS]
  if borrower[LATE] == 0 and borrower[LATE + 1] == 0 and borrower[LATE + 2] == 0 then borrower[LATE_AT] = chunks[1] end
  for metric = 0, 2 do borrower[LATE + metric] = borrower[LATE + metric] + chunks[2 + metric] end
  for _ = 1, 4 do table.remove(chunks, 1) end
end

-- Counts chunks that were lent at or before `bound` as used.
local function settle(borrower, bound)
  while borrower[CHUNKS][1] and borrower[CHUNKS][1] <= bound do settle_oldest(borrower) end
end

-- Places in what a request changes, three each: tokens of chunks that come back in time or whose reply was lost, those that
-- come back late, what was charged and not used after all, what is to be charged, and what was settled; then how old the
-- late ones are, and what the settled ones cost.
local BACK, LATE_BACK, REFUND, CHARGED, SETTLED, AGE, PRICED = 1, 4, 7, 10, 13, 16, 17

-- Takes a newer request: the greater of each counter. Returns what that changes. What was at hand of chunks that died long ago
-- has drained.
local function take_news(borrower, q, now)
  local news = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, now - borrower[LATE_AT], 0}
  local chunks, is_drained = borrower[CHUNKS], borrower[UNTIL] + SMALL_SETTLE <= now
  for metric = 0, 2 do
    local drained = is_drained and borrower[AT_HAND + metric] or 0
    local granted, returned, debt, used = q[Q_GRANTED + metric], q[Q_RETURNED + metric], q[Q_DEBT + metric], q[Q_USED + metric]
    local unheard = borrower[B_GRANTED + metric] - granted
    local rest = unheard > 0 and unheard or 0
    if borrower[B_RETURNED + metric] < returned then
      rest = rest + returned - borrower[B_RETURNED + metric]
      borrower[B_RETURNED + metric] = returned
    end
    if borrower[B_DEBT + metric] < debt then
      news[CHARGED + metric] = debt - borrower[B_DEBT + metric]
      borrower[B_DEBT + metric] = debt
    end
    if borrower[B_USED + metric] < used then
      news[SETTLED + metric] = used - borrower[B_USED + metric]
      borrower[B_USED + metric] = used
    end
    borrower[B_GRANTED + metric], borrower[AT_HAND + metric] = granted, q[Q_AT_HAND + metric]
    if rest > 0 then
      local back = 0
      for chunk = 2 + metric, #chunks, 4 do
        local moved = min(rest, chunks[chunk])
        rest, chunks[chunk], back = rest - moved, chunks[chunk] - moved, back + moved
      end
      local late = min(rest, borrower[LATE + metric])
      news[BACK + metric], news[LATE_BACK + metric], news[REFUND + metric] = back, late, max(0, rest - late - drained)
    end
    borrower[LATE + metric] = 0
  end
  news[PRICED] = max(0, q[Q_PRICED] - (borrower[B_PRICED] or 0))
  if news[PRICED] > 0 then borrower[B_PRICED] = q[Q_PRICED] end
  borrower[LATE_AT], borrower[B_SEQ], borrower[HEARD] = 0, q[Q_SEQ], now
  return news
end

-- Notes a grant that lives until `until_when`. The rest of a small one may come back in full while it counts as out.
local function borrow(borrower, tokens, is_small, now, until_when)
  if tokens[1] == 0 and tokens[2] == 0 and tokens[3] == 0 then return end
  for metric = 1, 3 do
    local place = metric - 1
    borrower[B_GRANTED + place] = borrower[B_GRANTED + place] + tokens[metric]
    borrower[AT_HAND + place] = borrower[AT_HAND + place] + tokens[metric]
  end
  borrower[UNTIL] = max(borrower[UNTIL], until_when)
  if is_small then return end
  local chunks = borrower[CHUNKS]
  table.insert(chunks, now)
  for metric = 1, 3 do table.insert(chunks, tokens[metric]) end
  if #chunks > CHUNKS_MAX * 4 then settle_oldest(borrower) end
end

-- Places in what the group's state says of a session.
local NAME, A_HEARD, A_UNTIL, A_AT_HAND, A_CHUNKS = 1, 2, 3, 4, 7

local function active(session, borrower)
  return {
    session, borrower[HEARD], borrower[UNTIL], borrower[AT_HAND], borrower[AT_HAND + 1], borrower[AT_HAND + 2],
    borrower[CHUNKS],
  }
end

-- Places in what others come to.
local LENT, HANDS, BORROWERS = 1, 4, 7

-- What all sessions but the asker come to: tokens lent that may come back, tokens at hand, and how many borrow. Sessions that
-- matter no more are dropped.
local function sum_up(state, asker)
  local sums, kept, now = {0, 0, 0, 0, 0, 0, 0}, {}, state[RATE_NOW]
  for _, other in ipairs(state[ACTIVE]) do
    local chunks, is_near = other[A_CHUNKS], now - other[A_HEARD] <= HEARD_WITHIN
    local is_lent = #chunks > 0 and now - CHUNK_SETTLE < chunks[#chunks - 3]
    local is_out = now < other[A_UNTIL] + SMALL_SETTLE
      and (other[A_AT_HAND] > 0 or other[A_AT_HAND + 1] > 0 or other[A_AT_HAND + 2] > 0)
    if other[NAME] ~= asker and (is_near or is_lent or is_out) then
      table.insert(kept, other)
      if is_near then sums[BORROWERS] = sums[BORROWERS] + 1 end
      for metric = 0, 2 do
        if is_out then sums[HANDS + metric] = sums[HANDS + metric] + other[A_AT_HAND + metric] end
        for chunk = 1, #chunks, 4 do
          if now - CHUNK_SETTLE < chunks[chunk] then
            sums[LENT + metric] = sums[LENT + metric] + chunks[chunk + 1 + metric]
          end
        end
      end
    end
  end
  state[ACTIVE] = kept
  return sums
end
