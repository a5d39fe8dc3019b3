-- Money in two whole numbers, USD and nano-USD: a Lua number is exact below 2^53 only, which is 9 million USD in nano-USD.
--
-- An amount in an account's state is at two places, `a[i]` and `a[i + 1]`, with 0 <= nanos < USD.

local floor, max, min = math.floor, math.max, math.min
local USD = 1e9

-- The same amount, so that 0 <= nanos < USD. `nanos` is a whole number between -2^53 and 2^53.
local function normal(usd, nanos)
  if 0 <= nanos and nanos < USD then return usd, nanos end
  local carry = floor(nanos / USD)
  return usd + carry, nanos - carry * USD
end

-- Adds nano-USD, of which there are fewer than 2^52 either way, to the amount at `i`.
local function add(a, i, nanos)
  a[i], a[i + 1] = normal(a[i], a[i + 1] + nanos)
end

local function is_less(usd, nanos, other_usd, other_nanos)
  return usd < other_usd or usd == other_usd and nanos < other_nanos
end

-- In nano-USD, no less than 0. Above 2^51 it is 2^52: all that it is compared with lies below 2^50.
local function near(usd, nanos)
  if usd < 0 then return 0 end
  if usd > 2251799 then return 4503599627370496 end
  return usd * USD + nanos
end

-- One part of `parts`, rounded down, in nano-USD, as `near`; -1 for less than nothing.
local function divided(usd, nanos, parts)
  if usd < 0 then return -1 end
  local whole = floor(usd / parts)
  if whole > 2251799 then return 4503599627370496 end
  return whole * USD + floor(((usd - whole * parts) * USD + nanos) / parts)
end

-- Whether the amount at `i` is more than `nanos`.
local function exceeds(a, i, nanos)
  local usd, rest = normal(a[i], a[i + 1] - nanos)
  return usd > 0 or usd == 0 and rest > 0
end

local function is_positive(a, i)
  return a[i] > 0 or a[i] == 0 and a[i + 1] > 0
end
