-- One exact bucket for each metric of a group, and its minutes.
--
-- A level is whole tokens and parts of one, of which a token has as many as a minute has milliseconds: a limit of L tokens a
-- minute drains L parts a millisecond, and both numbers stay whole and small. Store time is in milliseconds, so nothing
-- finer ever comes up.

local PARTS = 60000

-- Places in a group's state. What there is of each metric takes three places, a bucket's level six.
local RATE_NOW, BURST, VERSION, STATES, LIMITS, TOKENS, PARTLY, SINCE_WHEN = 1, 2, 3, 4, 5, 8, 11, 14
local MINUTE_NOW, MINUTE_USED, MINUTES_ENDED, TURNED, ACTIVE = 17, 18, 21, 22, 23
-- Where something is reserved: what is paid for each minute, the tokens that it adds, and what of it was used in this one.
local RESERVED = 24
local PER_MINUTE, MORE, COVERED = 1, 2, 5

local LIMIT_MAX = 70368744177664 -- 2^46
local PRICED_MAX = 8796093022208 -- 2^43

local function group_key(account, group)
  return tag .. 't:' .. #account .. ':' .. account .. group
end

local function load_group(key)
  local text = call('GET', key)
  return text and unpack_one(text)
end

local function save_group(key, state)
  call('SET', key, pack(state))
end

-- What a limit brings in some milliseconds: tokens and parts.
local function flow(limit, millis)
  local all = limit * millis
  -- 2^53, below which it is exact.
  if all < 9007199254740992 then
    local partly = all % PARTS
    return (all - partly) / PARTS, partly
  end
  local below, rest = limit % PARTS, millis % PARTS
  local minutes, whole = (limit - below) / PARTS, (millis - rest) / PARTS
  local parts = below * rest
  local partly = parts % PARTS
  return limit * whole + minutes * rest + (parts - partly) / PARTS, partly
end

-- The first level less the second, or nothing where that is more.
local function less(tokens, parts, other_tokens, other_parts)
  tokens, parts = tokens - other_tokens, parts - other_parts
  if parts < 0 then tokens, parts = tokens - 1, parts + PARTS end
  if tokens < 0 then return 0, 0 end
  return tokens, parts
end

local function is_lower(tokens, parts, other_tokens, other_parts)
  return tokens < other_tokens or tokens == other_tokens and parts < other_parts
end

-- The limit of a metric in force, what is reserved on top.
local function limit_of(state, metric)
  local limit, reserved = state[LIMITS + metric], state[RESERVED]
  return reserved and min(limit + reserved[MORE + metric], LIMIT_MAX) or limit
end

-- The level of a metric's bucket now.
local function level(state, metric)
  local passed = state[RATE_NOW] - state[SINCE_WHEN + metric]
  if passed == 0 then return state[TOKENS + metric], state[PARTLY + metric] end
  return less(state[TOKENS + metric], state[PARTLY + metric], flow(limit_of(state, metric), passed))
end

local function set_level(state, metric, tokens, parts)
  state[TOKENS + metric], state[PARTLY + metric], state[SINCE_WHEN + metric] = tokens, parts, state[RATE_NOW]
end

-- Adds tokens to a bucket, whether they fit or not; takes them out, down to empty, where they are negative.
local function charge(state, metric, tokens)
  local now_tokens, parts = level(state, metric)
  if tokens == 0 then return set_level(state, metric, now_tokens, parts) end
  if tokens < 0 then
    now_tokens, parts = less(now_tokens, parts, -tokens, 0)
  else
    now_tokens = now_tokens + tokens
  end
  set_level(state, metric, now_tokens, parts)
end

-- Tokens that fit where the level is that of now, rounded down.
local function fits(state, metric, limit)
  local capacity, capacity_parts = flow(limit, state[BURST] * 1000)
  return (less(capacity, capacity_parts, state[TOKENS + metric], state[PARTLY + metric]))
end

-- What is due drains at the old limits first: what is left is debt in tokens, whatever the new limits are.
local function set_limits(state, limits, burst)
  for metric = 0, 2 do
    local tokens, parts = level(state, metric)
    set_level(state, metric, tokens, parts)
    state[LIMITS + metric] = limits[metric + 1]
  end
  state[BURST] = burst
end

-- Where too many minutes wait, the last stands for the rest with the most of each metric: their sum would look like a minute
-- that never was.
local function merge_last_minute(ended)
  local last = #ended - 3
  if last <= MINUTES_MAX * 4 then return end
  local before = last - 4
  if before < 1 then
    for _ = 1, 4 do table.remove(ended) end
    return
  end
  ended[before] = ended[last]
  for metric = 1, 3 do ended[before + metric] = max(ended[before + metric], ended[last + metric]) end
  for _ = 1, 4 do table.remove(ended) end
end

-- Moves store time on and closes the minute that ended: its number, and the tokens settled in it.
local function tick_group(state, time)
  state[RATE_NOW] = max(state[RATE_NOW], time)
  local minute = floor(state[RATE_NOW] / MINUTE)
  if minute <= state[MINUTE_NOW] then return end
  local a, b, c = state[MINUTE_USED], state[MINUTE_USED + 1], state[MINUTE_USED + 2]
  if a > 0 or b > 0 or c > 0 then
    local ended = state[MINUTES_ENDED]
    for _, number in ipairs({state[MINUTE_NOW], a, b, c}) do table.insert(ended, number) end
    merge_last_minute(ended)
    state[VERSION] = state[VERSION] + 1
  end
  state[MINUTE_NOW], state[TURNED] = minute, state[RATE_NOW]
  for metric = 0, 2 do state[MINUTE_USED + metric] = 0 end
  -- What was reserved for the minute that ended and not used is lost.
  if state[RESERVED] then state[RESERVED][COVERED] = 0 end
end
