"""What Redis does by itself, as scripts in Lua: each happens as a whole or not at all, and in one slot of a cluster.

How entries, history, list and stream lie there is the part of `redis_layout` and `redis_names`.
"""

from __future__ import annotations

__all__ = ["DELETE_MARK", "FORGET", "INDEXED", "INVALIDATE", "PUT", "SWEEP"]

INDEXED = """
local rows = {}
for at = 1, #KEYS do rows[at] = redis.call('HMGET', KEYS[at], unpack(ARGV)) end
return rows
"""
"""The fields ARGV of the hashes KEYS. One command of 500 keys costs a client a fifth of what 500 commands cost it."""

PUT = """
local head = redis.call('HMGET', KEYS[2], 'era', 'number', 'deletions', 'last')
local number = head[2] or '0'
if ARGV[2] ~= '' then
  local began, deletions = tonumber(ARGV[3]), tonumber(head[3] or '0') or 0
  local era, deletion = string.match(redis.call('GET', KEYS[5]) or '', '^(%S+) (%d+)$')
  if ARGV[4] == '1' then era, deletion = head[1], deletions end
  local is_first = ARGV[10] ~= '' and ARGV[10] == head[4] and tonumber(deletion or 0) > deletions
  if began > deletions or (era == head[1] and tonumber(deletion) > began and not is_first) then return 'gone' end
  if ARGV[10] ~= '' and ARGV[10] ~= head[4] then
    if not string.find(redis.call('HGET', KEYS[2], 'past') or '', ARGV[10], 1, true) then return 'gone' end
  end
  if ARGV[2] ~= (head[1] or '') .. ' ' .. number then return 'late' end
end
if not head[1] then
  redis.call('HSET', KEYS[2], 'era', ARGV[1])
  head[1] = ARGV[1]
end
redis.call('HSET', KEYS[1], 'stamp', head[1] .. ' ' .. number, unpack(ARGV, 11))
redis.call('PEXPIREAT', KEYS[1], ARGV[5])
local expired = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[6], 'LIMIT', 0, 64)
if #expired > 0 then redis.call('ZREM', KEYS[3], unpack(expired)) end
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[7])
if ARGV[8] ~= '' then redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[9], '*', 'put', ARGV[8]) end
return 'put'
"""
"""KEYS: entry, history, list of entries, stream, mark of a deletion. ARGV: an era, should this be the first; the moment
that must still be the present one, empty for any; how many deletions by key there had been when the put began; 1 when
that was so long ago that marks of deletions may be gone; the expiry and the present in Unix ms; the entry's member; its
key for the stream, empty for none; how many records to keep; the name of what came last before the put began, empty for
none; the fields. 'late': there were other invalidations since the moment; 'gone': the entry was deleted, or may have
been, or what came last is no part of this history's past. Then nothing is written. Where the count of deletions was
lost and begins anew, what began before that is gone, and a mark ahead of the count turns nothing away that began after
all that has happened since. Of the expired ones on the list 64 leave with each put: more at once would hold up all
others."""

_NO_NUMBERS = """
for _, count in ipairs(redis.call('HMGET', KEYS[1], 'number', 'deletions')) do
  if count and (#count > 15 or not string.match(count, '^%d+$')) then redis.call('DEL', KEYS[1]) end
end
"""
"""A history whose counts are no numbers is forgotten, and all of the bucket's answers with it, before it goes on."""

DELETE_MARK = (
    _NO_NUMBERS
    + """
local past = (redis.call('HGET', KEYS[1], 'past') or '') .. ' ' .. ARGV[3]
redis.call('HSET', KEYS[1], 'past', string.sub(past, -ARGV[4] * (#ARGV[3] + 1)), 'last', ARGV[3])
redis.call('HSETNX', KEYS[1], 'era', ARGV[1])
local deletion = redis.call('HINCRBY', KEYS[1], 'deletions', 1)
redis.call('SET', KEYS[2], redis.call('HGET', KEYS[1], 'era') .. ' ' .. deletion, 'PX', ARGV[2])
"""
)
"""Turns away puts of an entry that began before. KEYS: history, mark. ARGV: an era, should this be the first; after how
many milliseconds no such put is under way any more, a new name, and how many names of the past to keep."""

INVALIDATE = (
    _NO_NUMBERS
    + """
redis.call('HSETNX', KEYS[1], 'era', ARGV[1])
local number = redis.call('HINCRBY', KEYS[1], 'number', 1)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local heads = 3 + redis.call('HEXISTS', KEYS[1], 'deletions') + 2 * redis.call('HEXISTS', KEYS[1], 'past')
local others = redis.call('HLEN', KEYS[1]) - heads
if others >= tonumber(ARGV[5]) then
  local fields = redis.call('HGETALL', KEYS[1])
  for at = 1, #fields, 2 do
    local made_ms = string.match(fields[at + 1], '^%d+ (%d+) ')
    if made_ms and tonumber(made_ms) + tonumber(ARGV[6]) < now_ms then redis.call('HDEL', KEYS[1], fields[at]) end
  end
  if redis.call('HLEN', KEYS[1]) - heads >= tonumber(ARGV[5]) then
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'era', ARGV[1], 'number', number)
  end
end
local past = (redis.call('HGET', KEYS[1], 'past') or '') .. ' ' .. ARGV[2]
redis.call('HSET', KEYS[1], 'past', string.sub(past, -ARGV[7] * (#ARGV[2] + 1)), 'last', ARGV[2])
redis.call('HSET', KEYS[1], 'token', ARGV[2], ARGV[3],
  number .. ' ' .. string.format('%.0f', now_ms) .. ' ' .. ARGV[4])
"""
)
"""KEYS: history. ARGV: a new era, a new token, the rule's name, its text, how many rules at most, after how many
milliseconds a rule has nothing left to forget, and how many names of the past to keep. The clock is Redis's own."""

FORGET = """
local is_same = redis.call('TYPE', KEYS[1]).ok ~= 'hash'
  or (redis.call('HGET', KEYS[1], 'era') or '') == ARGV[1]
  and (redis.call('HGET', KEYS[1], 'token') or '') == ARGV[2]
return is_same and redis.call('DEL', KEYS[1]) or 0
"""
"""Ends a history that cannot be read, and with it all of the bucket's answers. KEYS: history. ARGV: its era and token
as they were read; when they are others, somebody else began it anew, and nothing happens. What stands there and is no
hash ends whatever was read."""

SWEEP = """
local removed = {}
for at = 3, #KEYS do
  local given = 3 * (at - 3)
  if redis.call('HGET', KEYS[at], 'stamp') == ARGV[given + 2] then
    redis.call('DEL', KEYS[at])
    redis.call('ZREM', KEYS[1], ARGV[given + 3])
    removed[#removed + 1] = ARGV[given + 4]
  end
end
if #removed > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'removed', table.concat(removed, ' '))
end
return #removed
"""
"""Deletes entries that are still those that were judged: another may have been put in the place of one meanwhile. KEYS:
list of entries, stream, the entries. ARGV: how many records to keep; of each entry its stamp, member and key."""
