-- Takes off what reservations pay for of the usage that this call tells: before `sync` is told of it, so that nothing is
-- announced that is paid for.
function cover(account, a, covered, time)
  tick(a, time)
  for _, sum in ipairs({USED, RETIRED, MONTH_USED}) do add(a, sum, -covered) end
  a[OPS] = a[OPS] + 1
  -- The tier is looked at anew.
  a[TIER_AT], a[TIER_AT + 1] = -1e15, 0

  save_account(account, a)
end
