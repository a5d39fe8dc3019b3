-- Where things stand: the bucket that is looked at, and the keys in it.
--
-- The tag of an account's bucket is the beginning of all its keys:
--   a:account  state          c:account  terms as written      s:account  session records, by session and generation
--   x:account  open records by the end of their lease          y:account  the same, by that and the lease's life
--   z:account  tombstones by the time of their end             g:account  generations of each session
--   p:account  purchases, by id                                l:account  API keys, by id
--   h:account  history, a line for each number from 1
--   u:account  users who have a state, which stands as an account's under account/user
--   t:account group  rate buckets                              b:account group session  who borrows from them
--   names  accounts                                            out  the outbox
--   due  accounts by when the cashier looks at their purchase  claims  events by until when they are taken or put off
-- Names that stand together in one key have their lengths before them.

local pack, unpack_one = cmsgpack.pack, cmsgpack.unpack
local call = redis.call
local tag = KEYS[1]
