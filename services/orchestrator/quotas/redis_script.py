"""The one script of the books in Redis, which does every step of them atomically.

    spillway:quotas:1:{TENANT}:leases                               runs that are open, by the end of their lease
    spillway:quotas:1:{TENANT}:run:RUN                              hash: state, held (window, amount, ...)
                                                                    both outlive the windows that they hold of
    spillway:quotas:1:{TENANT}:budget:NAME:HOLDER:PERIOD:MEASURE:START   hash: spent, held
    spillway:quotas:1:{TENANT}:rate:NAME:HOLDER:MEASURE             when the next unit is due, in microseconds

TENANT and HOLDER are hashes. The braces put all keys of a tenant into one slot of a cluster, so the script may make up
names from its first key. Time is Redis's own (`now_us` of 0), so no two clocks are compared; tests pass another one.
Numbers are doubles: exact up to 2^53, which is nine million dollars in nano dollars; counts themselves are integers of
64 bits, changed by HINCRBY.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PREFIX", "SCRIPT"]

PREFIX: Final = "spillway:quotas:1"

# KEYS: the leases. ARGV: a step, as JSON.
SCRIPT: Final = r"""
local step = cjson.decode(ARGV[1])
local leases = KEYS[1]
local base = string.sub(leases, 1, -7)
local MINUTE_US = 60000000
local EXPIRED_MAX = 200

local function whole(number) return string.format('%.0f', number) end

local function less(key, field, amount)
  if amount ~= '0' then redis.call('HINCRBY', key, field, '-' .. amount) end
end

local now_us = step.now_us
if now_us == 0 then
  local time = redis.call('TIME')
  now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function days_of(year, month)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local yoe = year - era * 400
  local shifted = month > 2 and month - 3 or month + 9
  local doy = math.floor((153 * shifted + 2) / 5)
  return era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
end

local function month_of(now_s)
  local z = math.floor(now_s / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor(
    (doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400
  if month <= 2 then year = year + 1 end
  return year, month
end

local LENGTHS = {minute = 60, hour = 3600, day = 86400}
local function window_of(period)
  local now_s = now_us / 1000000
  local length = LENGTHS[period]
  if length then
    local start = math.floor(now_s / length) * length
    return start, start + length
  end
  local year, month = month_of(now_s)
  local after_year, after_month = year, month + 1
  if after_month > 12 then after_year, after_month = year + 1, 1 end
  return days_of(year, month) * 86400, days_of(after_year, after_month) * 86400
end

local function window_key(line, start) return base .. 'budget:' .. line.key .. ':' .. whole(start) end

local function outlive(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, whole(ms)) end
end

-- Runs whose lease has ended are charged in full.
local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now_us), 'LIMIT', 0, EXPIRED_MAX)
for _, run in ipairs(dead) do
  local record = base .. 'run:' .. run
  local held = cjson.decode(redis.call('HGET', record, 'held') or '[]')
  for i = 1, #held, 2 do
    less(held[i], 'held', held[i + 1])
    redis.call('HINCRBY', held[i], 'spent', held[i + 1])
    outlive(held[i], step.keep_ms)
  end
  redis.call('HSET', record, 'state', 'charged')
  redis.call('PEXPIRE', record, whole(step.keep_ms))
  redis.call('ZREM', leases, run)
end

local function counts(key)
  local found = redis.call('HMGET', key, 'spent', 'held')
  return tonumber(found[1] or '0'), tonumber(found[2] or '0')
end

if step.what == 'look' then
  local seen = {}
  for i, line in ipairs(step.budgets) do
    local start = window_of(line.period)
    local spent, held = counts(window_key(line, start))
    seen[i] = {whole(spent), whole(held)}
  end
  return seen
end

local record = base .. 'run:' .. step.run

if step.what == 'settle' then
  local state = redis.call('HGET', record, 'state')
  if state == 'settled' then return 0 end
  local held = cjson.decode(redis.call('HGET', record, 'held') or '[]')
  for i = 1, #held, 2 do
    less(held[i], state == 'open' and 'held' or 'spent', held[i + 1])
    outlive(held[i], step.keep_ms)
  end
  for _, line in ipairs(step.budgets) do
    local key = window_key(line, line.start or (window_of(line.period)))
    redis.call('HINCRBY', key, 'spent', whole(line.spent))
    outlive(key, step.keep_ms)
  end
  if state then
    for _, rate in ipairs(step.rates) do
      local key = base .. 'rate:' .. rate.key
      local due = tonumber(redis.call('GET', key) or '0')
      if rate.unused < 0 then due = math.max(due, now_us) end
      due = due - rate.unused * MINUTE_US / rate.per_minute
      if due > now_us then
        redis.call('SET', key, string.format('%.3f', due), 'PX', whole(math.ceil((due - now_us) / 1000) + 1))
      else
        redis.call('DEL', key)
      end
    end
  end
  redis.call('ZREM', leases, step.run)
  redis.call('HSET', record, 'state', 'settled')
  redis.call('HDEL', record, 'held')
  redis.call('PEXPIRE', record, whole(step.keep_ms))
  return 1
end

-- To reserve: first whether everything fits, then all of it. A run that was settled while its order was on the way, by
-- a process that did not wait for it any more, gets nothing.
if redis.call('EXISTS', record) == 1 then return {0, 'late'} end
local slow_us, slow = 0, 0
for i, rate in ipairs(step.rates) do
  rate.due = math.max(tonumber(redis.call('GET', base .. 'rate:' .. rate.key) or '0'), now_us)
  rate.due = rate.due + rate.units * MINUTE_US / rate.per_minute
  local wait_us = rate.due - now_us - MINUTE_US
  if wait_us > 1 and wait_us > slow_us then slow_us, slow = wait_us, i end
end
if slow > 0 then return {0, 'rate', slow, whole(math.ceil(slow_us))} end

local cost = step.cost
local longest_us, longest = -1, 0
for i, line in ipairs(step.budgets) do
  line.start, line.finish = window_of(line.period)
  line.window = window_key(line, line.start)
  line.spent, line.held = counts(line.window)
  local room = math.max(0, line.limit - line.spent - line.held)
  local needed = step.tokens
  if line.measure == 'cost' then
    cost = math.min(cost, room)
    needed = step.least
  end
  if needed > line.limit then return {0, 'budget', i, '-1'} end
  if needed > room then
    local wait_us = line.finish * 1000000 - now_us
    if needed <= line.limit - line.spent then
      local next = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
      if next[2] then wait_us = math.min(wait_us, math.max(0, tonumber(next[2]) - now_us)) end
    end
    if wait_us > longest_us then longest_us, longest = wait_us, i end
  end
end
if longest > 0 then return {0, 'budget', longest, whole(longest_us)} end

for _, rate in ipairs(step.rates) do
  local key = base .. 'rate:' .. rate.key
  redis.call('SET', key, string.format('%.3f', rate.due), 'PX', whole(math.ceil((rate.due - now_us) / 1000) + 1))
end
if step.run == '' then return {1, '0'} end
local lease_ms = step.lease_us / 1000
local answer, held = {1, whole(cost)}, {}
local lasts_ms = lease_ms + step.keep_ms
for _, line in ipairs(step.budgets) do
  local amount = line.measure == 'cost' and cost or step.tokens
  redis.call('HINCRBY', line.window, 'held', whole(amount))
  local window_ms = math.ceil(line.finish * 1000 - now_us / 1000) + lease_ms + step.keep_ms
  outlive(line.window, window_ms)
  lasts_ms = math.max(lasts_ms, window_ms)
  held[#held + 1] = line.window
  held[#held + 1] = whole(amount)
  answer[#answer + 1] = whole(line.start)
  answer[#answer + 1] = whole(line.spent)
  answer[#answer + 1] = whole(line.held + amount)
end
redis.call('ZADD', leases, whole(now_us + step.lease_us), step.run)
outlive(leases, lasts_ms)
redis.call('HSET', record, 'state', 'open')
if #held > 0 then redis.call('HSET', record, 'held', cjson.encode(held)) end
redis.call('PEXPIRE', record, whole(lasts_ms))
return answer
"""
