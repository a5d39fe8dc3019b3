-- Events of this bucket's outbox, in order. ARGV: from which stream id; at most how many.

return redis.call('XRANGE', KEYS[1] .. 'out', ARGV[1], '+', 'COUNT', ARGV[2])
