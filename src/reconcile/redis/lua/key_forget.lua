-- Takes a revoked API key off its account's list. ARGV: account, id.

return redis.call('HDEL', KEYS[1] .. 'l:' .. ARGV[1], ARGV[2])
