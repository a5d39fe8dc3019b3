-- The history of an account: a line for each thing that moved its balance or its terms of payment, written in the step that
-- did it. A line is its time and its values, with a character between them that no value has. Users have none.

local BETWEEN = '\31'

-- Notes a line. What happens in a step is gathered in one list of events; its lines are at `lines`.
local function keep(account, a, events, ...)
  if string.find(account, '/', 1, true) then return end
  local lines = events.lines or {}
  events.lines = lines
  table.insert(lines, table.concat({string.format('%.0f', a[NOW]), ...}, BETWEEN))
  a[HISTORY] = a[HISTORY] + 1
end

-- Tells an event, and notes its values as a line.
local function tell_and_keep(account, a, events, event)
  table.insert(events, event)
  local values = {}
  for place = 2, #event, 2 do table.insert(values, event[place]) end
  keep(account, a, events, 'event', unpack(values))
end

local function keep_late(account, a, events)
  local late = a[STRAGGLED]
  a[STRAGGLED] = {}
  keep(account, a, events, 'late', late[LATE_MONTH], late[LATE_USED], late[LATE_USED + 1])
end

-- Usage of a month that has ended.
local function note_late(account, a, events, month, nanos)
  if nanos <= 0 then return end
  if a[STRAGGLED][LATE_MONTH] and a[STRAGGLED][LATE_MONTH] ~= month then keep_late(account, a, events) end
  if not a[STRAGGLED][LATE_MONTH] then a[STRAGGLED] = {month, a[NOW], 0, 0} end
  add(a[STRAGGLED], LATE_USED, nanos)
end

local function save_history(account, events)
  if events.lines then call('RPUSH', tag .. 'h:' .. account, unpack(events.lines)) end
end
