-- Everything that is kept of a group's buckets, for a test that compares it. ARGV: the account, the group, sessions.

local state = load_group(group_key(ARGV[1], ARGV[2]))
if not state then return false end
local records = {}
for place = 3, #ARGV do
  local text = call('GET', tag .. 'b:' .. #ARGV[1] .. ':' .. #ARGV[2] .. ':' .. ARGV[1] .. ARGV[2] .. ARGV[place])
  if text then
    table.insert(records, ARGV[place])
    table.insert(records, unpack_one(text))
  end
end
return {state, records}
