"""What entries in Redis take, who has to leave when there is no room, as parts of scripts in Lua.

The rule is that of `eviction`: the entry leaves that saves the least for each byte, of the tenant that has the most of
a shard, or of one that is beyond its own limit. Every shard keeps its own account, beside its list of entries:

    …:room:sizes            hash: entry key to "<bytes> <gain of one use> <tenant digest>"
    …:room:worth:<tenant>   sorted set: entry key by priority
    …:room:clocks           sorted set: tenant by the priority of the last one that had to leave
    …:room:counts, :bytes   sorted sets: tenant by its entries, and by their bytes
    …:room:totals           sorted set: 'bytes' by what all of them take

Promises: written in the script that writes the entry, so that the account is never half of it; what is on the list and
has no account (an older version stored it) leaves first; where the account lost a part of itself (evicted, deleted by
hand) the limit of entries holds all the same, and the account is right again when the shard has no entry left.
"""

from __future__ import annotations

__all__ = ["HELD", "MAKE_ROOM", "ROOM", "TAKE_IN"]

ROOM = """
local shard = string.sub(list, 1, -8)
local sizes, worth, clocks = shard .. 'room:sizes', shard .. 'room:worth:', shard .. 'room:clocks'
local counts, bytes, totals = shard .. 'room:counts', shard .. 'room:bytes', shard .. 'room:totals'

local function settle(tenant, change)
  local count = redis.call('ZCARD', worth .. tenant)
  if count > 0 then
    redis.call('ZADD', counts, count, tenant)
    redis.call('ZINCRBY', bytes, change, tenant)
    redis.call('ZINCRBY', totals, change, 'bytes')
    return
  end
  redis.call('ZREM', clocks, tenant)
  if redis.call('ZREM', counts, tenant) == 1 and redis.call('ZCARD', counts) == 0 then
    redis.call('DEL', bytes, totals)
    return
  end
  redis.call('ZINCRBY', totals, -(redis.call('ZSCORE', bytes, tenant) or 0), 'bytes')
  redis.call('ZREM', bytes, tenant)
end

local function key_of(member) return string.match(member, ':(.*)$') or '' end

local function leave(key)
  local size, tenant = string.match(redis.call('HGET', sizes, key) or '', '^(%d+) %S+ (%S*)$')
  if not size then return nil end
  redis.call('HDEL', sizes, key)
  if redis.call('ZREM', worth .. tenant, key) == 1 then settle(tenant, -size) end
  return tenant
end
"""
"""`leave` takes an entry off the account, and gives its tenant's digest; nil when it has none. Before it stands
`local list = ...`, the name of the shard's list of entries. The names of the others begin as that does: one slot."""

_CLEAR = """
local has_more = false

local function clear(count)
  local time = redis.call('TIME')
  local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local expired = redis.call('ZRANGEBYSCORE', list, '-inf', now_ms, 'LIMIT', 0, count)
  local gone = expired
  has_more = #expired == count
  if #expired == 0 then
    gone = {}
    for _, each in ipairs(redis.call('ZRANGE', list, 0, 3)) do
      if redis.call('EXISTS', shard .. 'entry:' .. key_of(each)) == 0 then gone[#gone + 1] = each end
    end
  end
  for _, each in ipairs(gone) do leave(key_of(each)) end
  if #gone > 0 then redis.call('ZREM', list, unpack(gone)) end
end

local function held()
  return redis.call('ZCARD', list), redis.call('ZSCORE', totals, 'bytes') or '0'
end
"""
"""What expired leaves, by Redis's own clock, and where nothing did, of the next four what a Redis that evicts by time
to live has evicted; and how many entries are there, and how many bytes."""

MAKE_ROOM = (
    ROOM
    + _CLEAR
    + """
local limits, uses = string.match(room, '^([^|]*)|(.*)$')
local tenant_max, entries_max, bytes_max, size, gain = string.match(limits, '^(%d+) (%d+) (%d+) (%d+) (%S+)$')
tenant_max, entries_max, bytes_max = tonumber(tenant_max), tonumber(entries_max), tonumber(bytes_max)
local tenant, key = string.match(member, '^([^:]*):(.*)$')
clear(64)

for used, times in string.gmatch(uses, '(%S+) (%d+)') do
  local each, whose = string.match(redis.call('HGET', sizes, used) or '', '^%d+ (%S+) (%S*)$')
  if each and redis.call('ZSCORE', worth .. whose, used) then
    redis.pcall('ZINCRBY', worth .. whose, times * each, used)
  end
end

local own = tonumber(string.match(redis.call('HGET', sizes, key) or '', '^%d+')) or 0
local own_listed = redis.call('ZSCORE', list, member) and 1 or 0
local own_worth = redis.call('ZSCORE', worth .. tenant, key) and 1 or 0
local ended = {}

local function end_entry(listed)
  local gone = key_of(listed)
  redis.call('DEL', shard .. 'entry:' .. gone)
  redis.call('ZREM', list, listed)
  leave(gone)
  ended[#ended + 1] = gone
  if gone == key then own, own_listed, own_worth = 0, 0, 0 end
end

local function ended_already(whose)
  for _, each in ipairs(has_more and redis.call('ZRANGE', worth .. whose, 0, 15) or {}) do
    if redis.call('EXISTS', shard .. 'entry:' .. each) == 0 then return each end
  end
end

local function evict(whose)
  local least = redis.call('ZRANGE', worth .. whose, 0, 0, 'WITHSCORES')
  local gone = ended_already(whose) or least[1]
  if not gone then return settle(whose, 0) end
  end_entry(whose .. ':' .. gone)
  if redis.call('ZREM', worth .. whose, gone) == 1 then settle(whose, 0) end
  if gone == least[1] and redis.call('ZSCORE', counts, whose) then redis.call('ZADD', clocks, least[2], whose) end
end

local function largest()
  local most = redis.call('ZREVRANGE', counts, 0, 0, 'WITHSCORES')
  local heaviest = redis.call('ZREVRANGE', bytes, 0, 0, 'WITHSCORES')
  if heaviest[1] and heaviest[2] / bytes_max > (most[2] or 0) / entries_max then return heaviest[1] end
  return most[1]
end

local function unaccounted()
  if redis.call('ZCARD', list) <= redis.call('HLEN', sizes) then return nil end
  for _, listed in ipairs(redis.call('ZRANDMEMBER', list, 16)) do
    if redis.call('HEXISTS', sizes, key_of(listed)) == 0 then return listed end
  end
end

local function goes_beyond(own_max, all_max, taken_max)
  local entries, taken = held()
  return redis.call('ZCARD', worth .. tenant) - own_worth + 1 > own_max,
    entries - own_listed + 1 > all_max or taken - own + size > taken_max
end

local own_before, all_before, taken_before = redis.call('ZCARD', worth .. tenant), held()
taken_before = math.max(bytes_max, taken_before)

local function is_larger()
  local _, taken = held()
  return taken - own + size > taken_before
end

local most = size + 0 <= bytes_max and 1024 or 0
if is_larger() then
  local _, taken = held()
  local average = taken / math.max(1, redis.call('HLEN', sizes))
  if taken - own + size - taken_before > most * average then most = 0 end
end
if most > 0 then
  for removal = 1, most do
    local is_tenant_full, is_full = goes_beyond(tenant_max, entries_max, bytes_max)
    if removal > 64 and not is_larger() then break end
    if is_tenant_full then
      evict(tenant)
    elseif is_full then
      local listed, whose = unaccounted(), largest()
      if not whose then listed = listed or redis.call('ZRANGE', list, 0, 0)[1] end
      if listed then end_entry(listed) elseif whose then evict(whose) else redis.call('DEL', totals) end
    else
      break
    end
  end
end
if #ended > 0 then
  redis.call('XADD', stream, 'MAXLEN', '~', records_max, '*', 'removed', table.concat(ended, ' '))
end
local is_tenant_full, is_full = goes_beyond(
  math.max(tenant_max, own_before), math.max(entries_max, all_before), taken_before
)
if is_tenant_full or is_full then return {'full', #ended, held()} end
"""
)
"""Before an entry is written. Given: `list` and `stream`, names; `member`, the entry on the list; `records_max`, of the
stream; `room`: how many entries a tenant may have, how many and how many bytes all of the shard, size and gain of this
one; and, behind a bar, keys that were used and how often. At most 64 expired ones leave the list, and while more of
them wait, those among a tenant's 16 least leave before a living one. At most 64 others have to leave, among them
perhaps what this one replaces, and up to 1,024 for one that is larger than these: more at once would hold up all
others. An entry for which that is not room enough is refused, unless there is no more afterwards than there was before;
where as many of the average size are too few, before anything leaves. Nothing is written before it is known that
something leaves: what has written may write on, however full Redis is."""

TAKE_IN = """
leave(key)
redis.call('HSET', sizes, key, size .. ' ' .. gain .. ' ' .. tenant)
redis.call('ZADD', worth .. tenant, (redis.call('ZSCORE', clocks, tenant) or 0) + gain, key)
settle(tenant, size)
"""
"""After the entry was written, and put on the list: puts it on the account, in place of what it replaces."""

HELD = (
    "local list = KEYS[1]"
    + ROOM
    + _CLEAR
    + """
clear(1000)
return {held()}
"""
)
"""How many entries a shard has, and how many bytes. KEYS: list of entries."""
