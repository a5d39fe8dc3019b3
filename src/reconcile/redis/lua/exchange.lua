-- One round for some accounts: money and rates of each in one step.
--
-- KEYS: for each account the tag of its bucket. ARGV: for each account its name, the session, the sync request or an empty
-- text, how many rate requests, and for each of them the group and the request. There is an answer to each request, in the
-- same order: a text, or a status with a refusal.

local time = store_time()

local function visit_account(account, session, request, rates)
  if string.find(account, '/', 1, true) then return visit_user(account, session, request, time) end
  local a = load_account(account)
  if not a then return 'no such account' end
  local answers, before, covered = {}, request ~= '' and 1 or 0, 0
  for place, rate in ipairs(rates) do
    local answer, more = lend_rate(account, session, rate[1], rate[2], time)
    if answer then covered = covered + more end
    answers[before + place] = answer or {ok = more}
  end
  if covered > 0 then cover(account, a, covered, time) end
  if request ~= '' then
    local answer, refusal = sync(account, a, session, request, time)
    answers[1] = answer or {ok = refusal}
  end
  return answers
end

local answers, place = {}, 1
for _, bucket in ipairs(KEYS) do
  tag = bucket
  local request, rates = ARGV[place + 2], {}
  for i = 1, tonumber(ARGV[place + 3]) do rates[i] = {ARGV[place + 2 + i * 2], ARGV[place + 3 + i * 2]} end
  local visited = guarded(visit_account, ARGV[place], ARGV[place + 1], request, rates)
  for i = 1, (request ~= '' and 1 or 0) + #rates do
    answers[#answers + 1] = type(visited) == 'table' and visited[i] or {ok = visited}
  end
  place = place + 4 + #rates * 2
end
return answers
