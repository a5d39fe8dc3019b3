-- Names of accounts in this bucket, in order. ARGV: after which name, or an empty text; at most how many.

local from = ARGV[1] == '' and '-' or '(' .. ARGV[1]
return redis.call('ZRANGEBYLEX', KEYS[1] .. 'names', from, '+', 'LIMIT', 0, ARGV[2])
