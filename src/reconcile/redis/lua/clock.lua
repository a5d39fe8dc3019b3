-- Store time in milliseconds since 1970: the server's own clock, which every sidecar shares.

local function store_time()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
