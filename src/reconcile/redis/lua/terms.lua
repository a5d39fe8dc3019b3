-- What the law looks at of an account's terms, as numbers in one text.

local function set_terms(a, numbers)
  local place = TERMS
  for number in string.gmatch(numbers, '%-?%d+') do
    a[place] = tonumber(number)
    place = place == TERMS_END and MORE_TERMS or place + 1
  end
  a[OWN_LIMIT] = a[IS_POSTPAID] == 1 and {a[LIMIT_KIND], a[LIMIT], a[LIMIT + 1]} or {}
  bound_limit(a)
  if place ~= MORE_TERMS_END + 1 then error('terms of ' .. place - TERMS .. ' numbers') end
end
