-- How session records end: silence, bye, tombstones, and oblivion. Decides here, and writes in sync.lua.
--
-- A visit is one call's view of an account: its state, the asker's name, and the records that end.

-- Later than any time.
local NEVER = 4503599627370496

-- The first `most` members of a sorted set with scores up to `bound`, but for the asker and those that are gone.
local function due(visit, set, bound, most)
  local beyond = most + 1 + #visit.gone
  local found = call('ZRANGEBYSCORE', tag .. set .. visit.account, '-inf', bound, 'LIMIT', 0, beyond)
  local others = {}
  for _, member in ipairs(found) do
    if member ~= visit.member and not visit.gone[member] and #others < most then table.insert(others, member) end
  end
  return others
end

local function records(visit, members)
  if #members == 0 then return {} end
  local texts = call('HMGET', tag .. 's:' .. visit.account, unpack(members))
  for i, text in ipairs(texts) do texts[i] = unpack_one(text) end
  return texts
end

-- Takes all rights back.
local function take_back(a, record, stage)
  local rest = outstanding(record)
  add(a, LEASED, -rest)
  record[RECLAIMED], record[STAGE], record[ENDED] = record[RECLAIMED] + rest, stage, a[NOW]
  a[OPS] = a[OPS] + 1
  return rest
end

-- Forgets records that have nothing outstanding; what they used stays counted.
local function retire(visit, members)
  for i, record in ipairs(records(visit, members)) do
    add(visit.a, RETIRED, record[SPENT])
    visit.gone[members[i]] = true
    table.insert(visit.gone, members[i])
  end
end

local function first_score(visit, set)
  local found = call('ZRANGE', tag .. set .. visit.account, 0, 0, 'WITHSCORES')
  return tonumber(found[2]) or NEVER
end

-- Takes the rights of silent sessions back and forgets old tombstones, few at a time, never the asker's.
local function reap(visit)
  local a = visit.a
  if a[NOW] < a[DUE_AT] then return end
  local set, bound = 'x:', a[NOW] - LIMBO - GRACE
  if a[RETURNS] == 1 then set, bound = 'y:', a[NOW] - GRACE end
  local silent = due(visit, set, bound, REAP_MAX)
  local forgotten = due(visit, 'z:', a[NOW] - TOMBSTONES, REAP_MAX)
  for i, record in ipairs(records(visit, silent)) do
    add(a, REAPED, take_back(a, record, SILENT))
    visit.ended[silent[i]] = record
  end
  retire(visit, forgotten)
  a[DUE_AT] = 0
  if #silent + #forgotten == 0 then
    a[DUE_AT] = min(first_score(visit, set) - bound + a[NOW], first_score(visit, 'z:') + TOMBSTONES)
  end
end

-- A record that was just written may be the first that is due.
local function note_due(a, record)
  local due = record[ENDED] + TOMBSTONES
  if record[STAGE] == OPEN then due = record[EXPIRES] + (a[RETURNS] == 1 and record[TTL] or LIMBO) + GRACE end
  a[DUE_AT] = min(a[DUE_AT], due)
end

-- The generations of a session that have a record, as a list.
local function generations(visit)
  local text = call('HGET', tag .. 'g:' .. visit.account, visit.session)
  return text and unpack_one(text) or {}
end

local function member_of(session, generation)
  return string.format('%s %08x', session, generation)
end

-- A new record takes the place of this session's closed generations and, if need be, of the oldest tombstone.
local function make_way(visit)
  local older, closed = {}, {}
  for _, generation in ipairs(visit.generations) do table.insert(older, member_of(visit.session, generation)) end
  for i, record in ipairs(records(visit, older)) do
    if record[STAGE] == CLOSED then table.insert(closed, older[i]) end
  end
  retire(visit, closed)
  if visit.known - #closed < SESSIONS_MAX then return end
  for _, member in ipairs(call('ZRANGE', tag .. 'z:' .. visit.account, 0, #closed)) do
    if not visit.gone[member] then return retire(visit, {member}) end
  end
end

-- Session and generation of a record's name.
local function names(member)
  return string.sub(member, 1, -10), tonumber(string.sub(member, -8), 16)
end

-- Takes the records that are gone out of all lists.
local function save_gone(visit)
  local account = visit.account
  for _, member in ipairs(visit.gone) do
    call('HDEL', tag .. 's:' .. account, member)
    call('ZREM', tag .. 'z:' .. account, member)
    local session, gone = names(member)
    local text, kept = call('HGET', tag .. 'g:' .. account, session), {}
    for _, generation in ipairs(unpack_one(text)) do
      if generation ~= gone then table.insert(kept, generation) end
    end
    if #kept == 0 then
      call('HDEL', tag .. 'g:' .. account, session)
    else
      call('HSET', tag .. 'g:' .. account, session, pack(kept))
    end
  end
end

local function save_ended(visit)
  for member, record in pairs(visit.ended) do
    call('HSET', tag .. 's:' .. visit.account, member, pack(record))
    call('ZREM', tag .. 'x:' .. visit.account, member)
    call('ZREM', tag .. 'y:' .. visit.account, member)
    call('ZADD', tag .. 'z:' .. visit.account, record[ENDED], member)
  end
end
