-- Lines of an account's history, oldest first, after those that are due by now were written.
--
-- ARGV: the account, how many at most, 1 where the newest are wanted, the number of the last line that was read, or an empty
-- text. The answer: the number of the first line and the lines; then the balance and usage without a line, in USD and nano-USD.

local account, most, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local a = load_account(account)
if not a then return 'no such account' end
local events = {}
tick(account, a, store_time(), events)
if events.lines then
  save_account(account, a)
  save_history(account, events)
end

-- Beyond the end there is nothing to count from.
local first = min(after or 0, a[HISTORY])
local last = first + most
if ARGV[3] == '1' then
  last = min(after or a[HISTORY] + 1, a[HISTORY] + 1) - 1
  first = max(0, last - most)
end
local lines = first < last and call('LRANGE', tag .. 'h:' .. account, first, last - 1) or {}
local usd, nanos = normal(a[CREDITS] - a[USED], a[CREDITS + 1] - a[USED + 1])
local late = a[STRAGGLED]
local open_usd, open_nanos = normal(
  a[MONTH_USED] + (late[LATE_USED] or 0), a[MONTH_USED + 1] + (late[LATE_USED + 1] or 0))
return {first + 1, lines, usd, nanos, open_usd, open_nanos}
