-- Whose API key this is. KEYS[1] is the key of its digest.

return redis.call('GET', KEYS[1])
