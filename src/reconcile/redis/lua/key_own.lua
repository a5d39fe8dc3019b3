-- Has an API key belong to an account, or, without ARGV, to nobody. KEYS[1] is the key of its digest.

if ARGV[1] then return redis.call('SET', KEYS[1], ARGV[1]) end
return redis.call('DEL', KEYS[1])
