-- Takes the result of an adaptive step, if nothing changed since the step was offered: 1, else 0.
--
-- ARGV: account, group, the version that was offered, the states as written or nothing where they stay, the three limits;
-- then, where something is reserved, what is paid for each minute, and the tokens that it adds.

local account, group, version = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limits = {tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])}
if max(limits[1], limits[2], limits[3]) >= LIMIT_MAX then return 0 end
local reserved = ARGV[8] and {tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])}
if reserved and max(reserved[2], reserved[3], reserved[4]) >= LIMIT_MAX then return 0 end
if reserved and reserved[1] > PRICED_MAX then return 0 end
local state = load_group(account, group)
if not state or state[VERSION] ~= version then return 0 end

tick_group(state, store_time())
local is_taken = state[VERSION] == version
if is_taken then
  set_limits(state, limits, state[BURST])
  if reserved then reserved[COVERED] = state[RESERVED] and state[RESERVED][COVERED] or 0 end
  state[RESERVED], state[VERSION] = reserved or nil, version + 1
  if ARGV[4] ~= '' then state[STATES], state[MINUTES_ENDED] = ARGV[4], {} end
end
save_group(account, group, state)
return is_taken and 1 or 0
