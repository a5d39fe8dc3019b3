-- Everything that is kept of an account, for a test that compares it. ARGV: the account.

local account = ARGV[1]
local a = load_account(account)
if not a then return 'no such account' end
a[LOTS] = unpack_one(a[LOTS])
local records = call('HGETALL', tag .. 's:' .. account)
for place = 2, #records, 2 do records[place] = unpack_one(records[place]) end
local generations = call('HGETALL', tag .. 'g:' .. account)
for place = 2, #generations, 2 do generations[place] = unpack_one(generations[place]) end
local function all(set) return call('ZRANGE', tag .. set .. account, 0, -1, 'WITHSCORES') end
return {a, call('GET', tag .. 'c:' .. account), records, all('x:'), all('y:'), all('z:'), generations}
