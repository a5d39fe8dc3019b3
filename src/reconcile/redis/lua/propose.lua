-- Takes the result of an adaptive step, if nothing changed since the step was offered: 1, else 0.
--
-- ARGV: account, group, the version that was offered, the states as written, the three limits.

local account, group, version = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limits = {tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])}
if max(limits[1], limits[2], limits[3]) >= 70368744177664 then return 0 end -- 2^46
local key = group_key(account, group)
local state = load_group(key)
if not state or state[VERSION] ~= version then return 0 end

tick_group(state, store_time())
local is_taken = state[VERSION] == version
if is_taken then
  set_limits(state, limits, state[BURST])
  state[STATES], state[MINUTES_ENDED], state[VERSION] = ARGV[4], {}, version + 1
end
save_group(key, state)
return is_taken and 1 or 0
