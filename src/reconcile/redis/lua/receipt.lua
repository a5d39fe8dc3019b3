-- The receipt of a purchase, and what of it is refunded. ARGV: the account, the purchase's id.

return redis.call('HMGET', KEYS[1] .. 'p:' .. ARGV[1], ARGV[2], ' refunded ' .. ARGV[2])
