-- An account as an operator sees it; with `records` as the second argument its records too, with `all` also its history. Changes
-- nothing.
--
-- The answer: store time, the state, the terms as written, then USD and nano-USD of limbo: rights lent to sessions whose
-- lease ended. Records come as a list of names and records.

local function look(account)
  local a = load_account(account)
  if not a then return 'no such account' end
  local now = max(store_time(), a[NOW])
  a[LOTS] = unpack_one(a[LOTS])
  local limbo = {0, 0}
  for _, member in ipairs(call('ZRANGEBYSCORE', tag .. 'x:' .. account, '-inf', string.format('%.0f', now))) do
    add(limbo, 1, outstanding(unpack_one(call('HGET', tag .. 's:' .. account, member))))
  end
  local records = (ARGV[2] == 'records' or ARGV[2] == 'all') and call('HGETALL', tag .. 's:' .. account) or {}
  for place = 2, #records, 2 do records[place] = unpack_one(records[place]) end
  local history = ARGV[2] == 'all' and call('LRANGE', tag .. 'h:' .. account, 0, -1) or {}
  return {now, a, call('GET', tag .. 'c:' .. account), limbo[1], limbo[2], records, history}
end

return guarded(look, ARGV[1])
