-- One round for some accounts: money and rates of each in one step.
--
-- KEYS: for each account the tag of its bucket. ARGV: for each account its name, the session, the sync request or an empty text, how many rate requests, and for each of
-- them the group and the request. The answers are in the same order.

local time = store_time()

local function visit_account(account, session, request, rates)
  if string.find(account, '/', 1, true) then return visit_user(account, session, request, time) end
  local a = load_account(account)
  if not a then return 'no such account' end
  local answers, covered = {false}, 0
  for _, rate in ipairs(rates) do
    local answer, more = lend_rate(account, session, rate[1], rate[2], time)
    table.insert(answers, answer)
    covered = covered + (more or 0)
  end
  if covered > 0 then cover(account, a, covered, time) end
  if request ~= '' then answers[1] = sync(account, a, session, request, time) end
  return answers
end

local answers, place = {}, 1
for number, bucket in ipairs(KEYS) do
  tag = bucket
  local rates = {}
  for i = 1, tonumber(ARGV[place + 3]) do rates[i] = {ARGV[place + 2 + i * 2], ARGV[place + 3 + i * 2]} end
  answers[number] = guarded(visit_account, ARGV[place], ARGV[place + 1], ARGV[place + 2], rates)
  place = place + 4 + #rates * 2
end
return answers
