-- Names of accounts in this bucket, or of users of an account, in order. ARGV: after which name, or an empty text; at most
-- how many; in which list.

local from = ARGV[1] == '' and '-' or '(' .. ARGV[1]
return redis.call('ZRANGEBYLEX', KEYS[1] .. ARGV[3], from, '+', 'LIMIT', 0, ARGV[2])
