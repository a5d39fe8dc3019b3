-- Takes off what reservations pay for of the usage that this call tells: before `sync` is told of it, so that nothing is
-- announced that is paid for.
function cover(account, a, covered, time)
  local events = {}
  tick(account, a, time, events)
  for _, sum in ipairs({USED, RETIRED, MONTH_USED}) do add(a, sum, -covered) end
  a[OPS] = a[OPS] + 1
  look_at_tier(a)

  save_account(account, a)
  save_history(account, events)
end
