-- What is remembered of a session that borrows: cumulative counters, and the chunks that may still come back.
--
-- A session's record is a key of its own, which the server forgets long after the session fell silent. What the others
-- need to know of it while it borrows stands in the group's state: when it was heard, what it has at hand until when, and
-- its chunks.

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

local function load_borrower(account, group, session)
  local text = call('GET', borrower_key(account, group, session))
  return text and unpack_one(text)
end

local function save_borrower(account, group, session, borrower)
  call('SET', borrower_key(account, group, session), pack(borrower), 'PX', SESSION_KEEP + 2 * MINUTE)
end

-- The record, unless the turn of a minute found the session silent for too long.
local function remembered(borrower, turned)
  if borrower and turned - borrower[HEARD] <= SESSION_KEEP then return borrower end
end

-- A session that was not known before. One that knows of grants was forgotten here: its counters are adopted as they are,
-- and what it did in between is lost rather than counted twice.
local function new_borrower(q)
  local borrower = {q.generation, 0}
  for place = 3, LATE + 2 do borrower[place] = 0 end
  borrower[CHUNKS] = {}
  if q.granted[1] > 0 or q.granted[2] > 0 or q.granted[3] > 0 then
    for metric = 1, 3 do
      borrower[B_GRANTED + metric - 1], borrower[B_DEBT + metric - 1] = q.granted[metric], q.debt[metric]
      borrower[B_RETURNED + metric - 1], borrower[B_USED + metric - 1] = q.returned[metric], q.used[metric]
    end
    if q.priced > 0 then borrower[B_PRICED] = q.priced end
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

-- Sets a counter to the greater value; how far it moved is the result.
local function advance(borrower, place, value)
  local moved = max(0, value - borrower[place])
  borrower[place] = borrower[place] + moved
  return moved
end

-- Takes a newer request: the greater of each counter, and what that changes for each metric: tokens of chunks that come back
-- in time or whose reply was lost, those that come back late, what was charged and not used after all, what is to be charged,
-- what was settled, and what that cost.
local function take_news(borrower, q, now)
  local news = {age = now - borrower[LATE_AT], back = {}, late = {}, refund = {}, charge = {}, used = {}}
  local chunks = borrower[CHUNKS]
  for metric = 1, 3 do
    local place = metric - 1
    local unheard = max(0, borrower[B_GRANTED + place] - q.granted[metric])
    local rest = advance(borrower, B_RETURNED + place, q.returned[metric]) + unheard
    news.charge[metric] = advance(borrower, B_DEBT + place, q.debt[metric])
    news.used[metric] = advance(borrower, B_USED + place, q.used[metric])
    borrower[B_GRANTED + place], borrower[AT_HAND + place] = q.granted[metric], q.at_hand[metric]
    local back = 0
    for chunk = 1, #chunks, 4 do
      local moved = min(rest, chunks[chunk + metric])
      rest, chunks[chunk + metric], back = rest - moved, chunks[chunk + metric] - moved, back + moved
    end
    local late = min(rest, borrower[LATE + place])
    news.back[metric], news.late[metric], news.refund[metric] = back, late, rest - late
    borrower[LATE + place] = 0
  end
  news.priced = max(0, q.priced - (borrower[B_PRICED] or 0))
  if news.priced > 0 then borrower[B_PRICED] = q.priced end
  borrower[LATE_AT], borrower[B_SEQ], borrower[HEARD] = 0, q.seq, now
  return news
end

-- Notes a grant that lives until `until_when`. The rest of a small one may come back in full whenever it does.
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

-- What all sessions but the asker come to: tokens lent that may come back, tokens at hand, and how many borrow. Sessions that
-- matter no more are dropped.
local function sum_up(state, asker)
  local sums, kept, now = {lent = {0, 0, 0}, at_hand = {0, 0, 0}, borrowers = 0}, {}, state[RATE_NOW]
  for _, other in ipairs(state[ACTIVE]) do
    local chunks, is_near = other[A_CHUNKS], now - other[A_HEARD] <= HEARD_WITHIN
    local is_lent = #chunks > 0 and now - CHUNK_SETTLE < chunks[#chunks - 3]
    if other[NAME] ~= asker and (is_near or is_lent or now < other[A_UNTIL]) then
      table.insert(kept, other)
      if is_near then sums.borrowers = sums.borrowers + 1 end
      for metric = 1, 3 do
        if now < other[A_UNTIL] then sums.at_hand[metric] = sums.at_hand[metric] + other[A_AT_HAND + metric - 1] end
        for chunk = 1, #chunks, 4 do
          if now - CHUNK_SETTLE < chunks[chunk] then sums.lent[metric] = sums.lent[metric] + chunks[chunk + metric] end
        end
      end
    end
  end
  state[ACTIVE] = kept
  return sums
end
