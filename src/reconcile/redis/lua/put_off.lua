-- Has a purchase or an event looked at again after a while.
--
-- ARGV: `due` or `claims`, the account or the event's id, after how many milliseconds, and the purchase's key.

local set, member, wait = ARGV[1], ARGV[2], tonumber(ARGV[3])
if set == 'due' then
  local a = load_account(member)
  if not a or not a[PENDING][SINCE] or purchase_of(member, a[PENDING])[2] ~= ARGV[4] then return 'not in flight' end
end
call('ZADD', tag .. set, 'XX', store_time() + wait, member)
return 'put off'
