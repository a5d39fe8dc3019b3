-- Forgets events that need not be told again. ARGV: their ids.

call('XDEL', tag .. 'out', unpack(ARGV))
call('ZREM', tag .. 'claims', unpack(ARGV))
-- An empty bucket costs the cashier one look.
if call('XLEN', tag .. 'out') == 0 then call('DEL', tag .. 'out', tag .. 'claims') end
return 'finished'
