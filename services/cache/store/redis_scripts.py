"""What Redis does by itself, as scripts in Lua: each happens as a whole or not at all, and in one slot of a cluster.

How entries, history, list and stream lie there is the part of `redis_layout` and `redis_names`.
"""

from __future__ import annotations

from services.cache.store.redis_room import MAKE_ROOM, ROOM, TAKE_IN

__all__ = ["DELETE", "DELETION", "FORGET", "INDEXED", "INVALIDATE", "PUT", "SWEEP"]

INDEXED = """
local rows = {}
for at = 1, #KEYS do rows[at] = redis.call('HMGET', KEYS[at], unpack(ARGV)) end
return rows
"""
"""The fields ARGV of the hashes KEYS. One command of 500 keys costs a client a fifth of what 500 commands cost it."""

PUT = (
    """
local head = redis.call('HMGET', KEYS[2], 'era', 'number', 'deletions', 'last')
local number = head[2] or '0'
if ARGV[2] ~= '' then
  local since, told = '', 0
  if ARGV[4] ~= (head[4] or '') then
    local past = redis.call('HGET', KEYS[2], 'past') or ''
    local _, at = string.find(past, ARGV[4], 1, true)
    if not at then return 'gone' end
    since = string.sub(past, at + 1)
  end
  for name in string.gmatch(since, '%S+') do
    if #name ~= #ARGV[5] + 16 or string.sub(name, 17) == ARGV[5] then return 'gone' end
    told = told + 1
  end
  if (tonumber(number) or 0) + (tonumber(head[3] or 0) or 0) - told ~= tonumber(ARGV[3]) then return 'gone' end
  if ARGV[2] ~= (head[1] or '') .. ' ' .. number then return 'late' end
end
local list, stream, room, member, records_max = KEYS[3], KEYS[4], ARGV[7], ARGV[8], ARGV[10]
"""
    + MAKE_ROOM
    + """
if not head[1] then
  redis.call('HSET', KEYS[2], 'era', ARGV[1])
  head[1] = ARGV[1]
end
redis.call('HSET', KEYS[1], 'stamp', head[1] .. ' ' .. number, unpack(ARGV, 11))
redis.call('PEXPIREAT', KEYS[1], ARGV[6])
redis.call('ZADD', list, ARGV[6], member)
"""
    + TAKE_IN
    + """
if ARGV[9] ~= '' then redis.call('XADD', stream, 'MAXLEN', '~', records_max, '*', 'put', ARGV[9]) end
return {'put', #ended, held()}
"""
)
"""KEYS: entry, history, list of entries, stream; and, that a slot on its way to another node refuses before anything is
written, the account and its part for the tenant, whose names are made from the list's. ARGV: an era, should this be the
first; the moment that must still be the present one, empty for any; how many invalidations and deletions by key there
had been when the put began, the name of what came last before it, empty for none, and what the names of the key's
deletions end with; the expiry in Unix ms; the room that there is (see `redis_room`); the entry's member; its key for
the stream, empty for none; how many records to keep; the fields. 'late': there were other invalidations since the
moment; 'gone': the entry was deleted, or may have been: the past does not say all that was counted since, or what came
last is no part of it, or a name in it says of no key. Then nothing is written. 'full': there is no room. With 'put' and
'full' comes how many others had to leave, and how many entries and bytes are there."""

_BEGUN = """
redis.call('HDEL', KEYS[1], '')
for _, count in ipairs(redis.call('HMGET', KEYS[1], 'number', 'deletions')) do
  if count and count ~= '0' and (#count > 15 or not string.match(count, '^[1-9]%d*$')) then
    redis.call('DEL', KEYS[1])
  end
end
redis.call('HSETNX', KEYS[1], 'era', ARGV[1])
local past = (redis.call('HGET', KEYS[1], 'past') or '') .. ' ' .. ARGV[2]
past = string.sub(past, -ARGV[3] * (#ARGV[2] + 1))
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'ended', ARGV[5])
"""
"""A script that has written is not refused by a full Redis any more, so it begins with a write that does nothing: what
ends an answer takes little, and makes room. A history whose counts are no numbers is forgotten, and all of the bucket's
answers with it, before it goes on. Followers are told the bucket (see `redis_endings`)."""

DELETION = (
    _BEGUN
    + """
redis.call('HSET', KEYS[1], 'past', past, 'last', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'deletions', 1)
"""
)
"""Turns away puts of an entry that began before. KEYS: history, stream. ARGV: an era, should this be the first; a new
name, which ends with what names of the key's deletions do; how many names of the past and how many records to keep; the
bucket."""

INVALIDATE = (
    _BEGUN
    + """
local number = redis.call('HINCRBY', KEYS[1], 'number', 1)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local heads = 3 + redis.call('HEXISTS', KEYS[1], 'deletions') + 2 * redis.call('HEXISTS', KEYS[1], 'past')
local others = redis.call('HLEN', KEYS[1]) - heads
if others >= tonumber(ARGV[8]) and redis.call('HEXISTS', KEYS[1], ARGV[6]) == 0 then
  local fields = redis.call('HGETALL', KEYS[1])
  for at = 1, #fields, 2 do
    local made_ms = string.match(fields[at + 1], '^%d+ (%d+) ')
    if made_ms and tonumber(made_ms) + tonumber(ARGV[9]) < now_ms then redis.call('HDEL', KEYS[1], fields[at]) end
  end
  if redis.call('HLEN', KEYS[1]) - heads >= tonumber(ARGV[8]) then
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'era', ARGV[1], 'number', number)
  end
end
redis.call('HSET', KEYS[1], 'past', past, 'last', ARGV[2], 'token', ARGV[2], ARGV[6],
  number .. ' ' .. string.format('%.0f', now_ms) .. ' ' .. ARGV[7])
"""
)
"""KEYS: history, stream. ARGV: a new era, a new name, how many names of the past and how many records to keep, the
bucket, the rule's name, its text, how many rules at most, and after how many milliseconds a rule has nothing left to
forget. The clock is Redis's own."""

FORGET = """
local is_same = redis.call('TYPE', KEYS[1]).ok ~= 'hash'
  or (redis.call('HGET', KEYS[1], 'era') or '') == ARGV[1]
  and (redis.call('HGET', KEYS[1], 'token') or '') == ARGV[2]
return is_same and redis.call('DEL', KEYS[1]) or 0
"""
"""Ends a history that cannot be read, and with it all of the bucket's answers. KEYS: history. ARGV: its era and token
as they were read; when they are others, somebody else began it anew, and nothing happens. What stands there and is no
hash ends whatever was read."""

SWEEP = (
    "local list = KEYS[1]"
    + ROOM
    + """
local removed = {}
for at = 3, #KEYS do
  local given = 3 * (at - 3)
  if redis.call('HGET', KEYS[at], 'stamp') == ARGV[given + 2] then
    redis.call('DEL', KEYS[at])
    redis.call('ZREM', list, ARGV[given + 3])
    leave(ARGV[given + 4])
    removed[#removed + 1] = ARGV[given + 4]
  end
end
if #removed > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'removed', table.concat(removed, ' '))
end
return #removed
"""
)
"""Deletes entries that are still those that were judged: another may have been put in the place of one meanwhile. KEYS:
list of entries, stream, the entries. ARGV: how many records to keep; of each entry its stamp, member and key."""

DELETE = (
    "local list = KEYS[1]"
    + ROOM
    + """
local removed, keys = 0, {}
for at = 3, #KEYS do
  local given = 2 * (at - 3) + 1
  removed = removed + redis.call('DEL', KEYS[at])
  redis.call('ZREM', list, ARGV[given + 2])
  local tenant = leave(ARGV[given + 3])
  if tenant then redis.call('ZREM', list, tenant .. ':' .. ARGV[given + 3]) end
  keys[#keys + 1] = ARGV[given + 3]
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'removed', table.concat(keys, ' '), 'ended', ARGV[2])
return removed
"""
)
"""Deletes entries, whatever lies there; how many there were. As SWEEP, without stamps; it deletes first, and so a full
Redis takes the record too."""
