"""The steps of jobs in Redis, as Lua: each happens as a whole, by Redis's own clock.

    spillway:{jobs}:1:job:ID        a hash: the job; without its request once it has ended
    spillway:{jobs}:1:queue         a stream with the consumer group `workers`: the ids of jobs that may be taken; what
                                    is pending in it is being worked on, and its idle time is the age of the lease
    spillway:{jobs}:1:later         id -> when it is put into the queue again
    spillway:{jobs}:1:open          id -> deadline, of those that have not ended
    spillway:{jobs}:1:open:TENANT   the same of one tenant (a hash of its name), to bound its share
    spillway:{jobs}:1:notices       id -> when its webhook is to be told (again)
    spillway:{jobs}:1:dead          id -> when it failed
    spillway:{jobs}:1:request:HASH  a hash: job and digest, of a tenant's request id

All lie in one slot of a cluster: a step touches several of them. An entry leaves the stream with its pending record, so
that both hold what is waiting or under way and nothing else. Ownership is the `owner` field, not a consumer's name, so
one name serves all processes and none is left behind by the dead.
"""

from __future__ import annotations

from typing import Final

from services.orchestrator.jobs.job_store import DEAD_MAX

__all__ = [
    "CANCEL",
    "DELIVERED",
    "DUE_NOTICES",
    "END",
    "GIVE_BACK",
    "PREFIX",
    "RENEW",
    "RETRY_LATER",
    "SUBMIT",
    "TAKE",
]

PREFIX: Final = "spillway:{jobs}:1:"

_COMMON: Final = (
    """
local P = KEYS[1]
local QUEUE, LATER, OPEN, NOTICES, DEAD = P .. 'queue', P .. 'later', P .. 'open', P .. 'notices', P .. 'dead'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local function open_of(tenant) return OPEN .. ':' .. redis.sha1hex(tenant) end
local function job_key(id) return P .. 'job:' .. id end
local function set_state(id, state)
  redis.call('HSET', job_key(id), 'state', state, 'changed', text(now))
end
local function enqueue(id)
  local entry = redis.call('XADD', QUEUE, '*', 'id', id)
  redis.call('HSET', job_key(id), 'entry', entry)
end
local function drop_entry(entry)
  redis.call('XACK', QUEUE, 'workers', entry)
  redis.call('XDEL', QUEUE, entry)
end
local function leave_queue(id)
  local entry = redis.call('HGET', job_key(id), 'entry')
  if entry then drop_entry(entry) end
  redis.call('HDEL', job_key(id), 'entry', 'owner')
  redis.call('ZREM', LATER, id)
end
local function is_owned(id, owner)
  local row = redis.call('HMGET', job_key(id), 'state', 'owner')
  return row[1] == 'running' and row[2] == owner
end
local function finish(id, state, completion, reason, message)
  local job = job_key(id)
  local row = redis.call('HMGET', job, 'ttl', 'url', 'request', 'tenant')
  local ttl = tonumber(row[1])
  leave_queue(id)
  redis.call('ZREM', OPEN, id)
  if row[4] then redis.call('ZREM', open_of(row[4]), id) end
  set_state(id, state)
  redis.call('HSET', job, 'expires', text(now + ttl), 'reason', reason, 'message', message)
  if completion ~= '' then redis.call('HSET', job, 'completion', completion) end
  redis.call('HDEL', job, 'submission')
  redis.call('PEXPIRE', job, text(ttl))
  if row[3] ~= '' then redis.call('PEXPIRE', P .. 'request:' .. row[3], text(ttl)) end
  if row[2] ~= '' then redis.call('ZADD', NOTICES, text(now), id) end
  if state == 'failed' then
    redis.call('ZADD', DEAD, text(now), id)
    redis.call('ZREMRANGEBYRANK', DEAD, 0, -"""
    + str(DEAD_MAX + 1)
    + """)
  end
end
"""
)

# ARGV: id, request hash or "", digest, open_max, timeout ms, ttl ms, submission, key id, url, tenant, tenant_max,
# traceparent.
SUBMIT: Final = (
    _COMMON
    + """
local id, request = ARGV[1], ARGV[2]
local pointer = P .. 'request:' .. request
if request ~= '' then
  local known = redis.call('HMGET', pointer, 'job', 'digest')
  if known[1] and redis.call('EXISTS', job_key(known[1])) == 1 then
    if known[2] ~= ARGV[3] then return 'conflict' end
    return 'known ' .. known[1]
  end
end
local mine = open_of(ARGV[10])
redis.call('ZREMRANGEBYSCORE', mine, '-inf', text(now))
if redis.call('ZCARD', OPEN) >= tonumber(ARGV[4]) then return 'full' end
if redis.call('ZCARD', mine) >= tonumber(ARGV[11]) then return 'full' end
local timeout, ttl = tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call('HSET', job_key(id), 'state', 'queued', 'tries', '0', 'submitted', text(now), 'changed', text(now),
  'ttl', text(ttl), 'submission', ARGV[7], 'key', ARGV[8], 'url', ARGV[9], 'request', request, 'tenant', ARGV[10],
  'trace', ARGV[12])
-- Should nobody ever work again, it is forgotten all the same.
redis.call('PEXPIRE', job_key(id), text(timeout + ttl))
if request ~= '' then
  redis.call('HSET', pointer, 'job', id, 'digest', ARGV[3])
  redis.call('PEXPIRE', pointer, text(timeout + ttl))
end
redis.call('ZADD', OPEN, text(now + timeout), id)
redis.call('ZADD', mine, text(now + timeout), id)
if redis.call('PTTL', mine) < timeout then redis.call('PEXPIRE', mine, text(timeout)) end
enqueue(id)
return 'queued ' .. id
"""
)

# ARGV: id, tenant. Whether there is such a job.
CANCEL: Final = (
    _COMMON
    + """
local row = redis.call('HMGET', job_key(ARGV[1]), 'state', 'tenant')
if not row[1] or row[2] ~= ARGV[2] then return 0 end
if row[1] == 'queued' or row[1] == 'running' then finish(ARGV[1], 'cancelled', '', '', '') end
return 1
"""
)

# ARGV: owner, count, lease ms, tries_max, at most so many to look at, then reason and message of the late and the lost.
TAKE: Final = (
    _COMMON
    + """
local owner, count, lease, tries_max, look = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', OPEN, '-inf', text(now), 'LIMIT', 0, look)) do
  if redis.call('EXISTS', job_key(id)) == 1 then finish(id, 'failed', '', ARGV[6], ARGV[7])
  else redis.call('ZREM', OPEN, id) redis.call('ZREM', LATER, id) end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', text(now), 'LIMIT', 0, look)) do
  redis.call('ZREM', LATER, id)
  if redis.call('EXISTS', job_key(id)) == 1 then enqueue(id) end
end
local taken = {}
local function take(entry, id, was_lost)
  local row = redis.call('HMGET', job_key(id), 'state', 'tries', 'key', 'submission', 'trace')
  if not row[1] or not row[4] then
    drop_entry(entry)
  elseif was_lost and tonumber(row[2]) >= tries_max then
    finish(id, 'failed', '', ARGV[8], ARGV[9])
  else
    local tries = redis.call('HINCRBY', job_key(id), 'tries', 1)
    redis.call('HSET', job_key(id), 'owner', owner, 'entry', entry)
    set_state(id, 'running')
    local remaining = (tonumber(redis.call('ZSCORE', OPEN, id)) or now) - now
    taken[#taken + 1] = {id, tries, text(remaining), row[3], row[4], row[5] or ''}
  end
end
if count > 0 then
  -- Not XAUTOCLAIM: it looks at ten entries for each that it may claim, and the lost one may stand behind more.
  local lost = redis.pcall('XPENDING', QUEUE, 'workers', 'IDLE', lease, '-', '+', count)
  if lost.err then
    redis.call('XGROUP', 'CREATE', QUEUE, 'workers', '0', 'MKSTREAM')
    lost = {}
  end
  for _, pending in ipairs(lost) do
    local entry = redis.call('XCLAIM', QUEUE, 'workers', 'any', lease, pending[1])[1]
    if entry then take(entry[1], entry[2][2], true) end
  end
end
if #taken < count then
  local read = redis.call('XREADGROUP', 'GROUP', 'workers', 'any', 'COUNT', count - #taken, 'STREAMS', QUEUE, '>')
  if read then
    for _, entry in ipairs(read[1][2]) do take(entry[1], entry[2][2], false) end
  end
end
return taken
"""
)

# ARGV: id, owner, id, owner, ... The ids that still are their owner's.
RENEW: Final = (
    _COMMON
    + """
local kept = {}
for i = 1, #ARGV, 2 do
  if is_owned(ARGV[i], ARGV[i + 1]) then
    local entry = redis.call('HGET', job_key(ARGV[i]), 'entry')
    redis.call('XCLAIM', QUEUE, 'workers', 'any', 0, entry, 'JUSTID')
    kept[#kept + 1] = ARGV[i]
  end
end
return kept
"""
)

# ARGV: id, owner, state, completion or "", reason, message.
END: Final = (
    _COMMON
    + """
if not is_owned(ARGV[1], ARGV[2]) then return 0 end
finish(ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
"""
)

# ARGV: id, owner, delay ms.
RETRY_LATER: Final = (
    _COMMON
    + """
if not is_owned(ARGV[1], ARGV[2]) then return 0 end
leave_queue(ARGV[1])
set_state(ARGV[1], 'queued')
redis.call('ZADD', LATER, text(now + ARGV[3]), ARGV[1])
return 1
"""
)

# ARGV: id, owner.
GIVE_BACK: Final = (
    _COMMON
    + """
if not is_owned(ARGV[1], ARGV[2]) then return 0 end
leave_queue(ARGV[1])
set_state(ARGV[1], 'queued')
redis.call('HINCRBY', job_key(ARGV[1]), 'tries', -1)
enqueue(ARGV[1])
return 1
"""
)

# ARGV: count, lease ms. The ids.
DUE_NOTICES: Final = (
    _COMMON
    + """
local due = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', NOTICES, '-inf', text(now), 'LIMIT', 0, ARGV[1])) do
  if redis.call('EXISTS', job_key(id)) == 1 then
    redis.call('ZADD', NOTICES, text(now + ARGV[2]), id)
    due[#due + 1] = id
  else
    redis.call('ZREM', NOTICES, id)
  end
end
return due
"""
)

# ARGV: id, a line, ms to the next or "".
DELIVERED: Final = (
    _COMMON
    + """
if redis.call('EXISTS', job_key(ARGV[1])) == 0 then redis.call('ZREM', NOTICES, ARGV[1]) return 0 end
local lines = redis.call('HGET', job_key(ARGV[1]), 'deliveries') or ''
redis.call('HSET', job_key(ARGV[1]), 'deliveries', lines .. ARGV[2])
if ARGV[3] == '' then redis.call('ZREM', NOTICES, ARGV[1])
else redis.call('ZADD', NOTICES, text(now + ARGV[3]), ARGV[1]) end
return 1
"""
)
