"""What has to happen in Redis in one piece: who lives, who has what, who is told.

The keys, all behind a prefix::

    epoch              the number of the node that joined last
    nodes              hash: node -> when it joined
    lease:<node>       there while the node lives; renewed by it
    dead:<node>        somebody has seen the lease missing and acted upon it: that node may never act again
    heir:<node>        who takes over what a dead node had
    dir:<space>        hash: key -> "<node> <note>"
    lead:<duty>        the node that has the duty
    grace              there while nobody counts as dead for a lease that ran out
    log                stream that all read: what is told
    in:<node>          stream: questions and answers
    mq:<node>          stream: MQTT messages at QoS 1 and 2 for the clean sessions and groups there

A lease that ran out is not yet a death: if Redis itself was away, all leases have run out, and nobody has taken
anything. Whoever finds that its own has judges nobody, and while ``grace`` is there (one lease from when the first is
back) nobody is judged for being late. The mark ``dead`` is set in the same step as the first thing is taken, and from
then on the node can renew no more, nor write (``lua/run.lua`` of the storage). So a node is fenced when somebody
has taken over from it.
"""

from __future__ import annotations

from typing import Final

#: Seconds that the mark of a death stays: longer than any process can be stopped and still have work in its memory.
MARK: Final = 7 * 86_400

_ALIVE: Final = f"""
local function alive(node)
  if node == '' or redis.call('EXISTS', ARGV[1] .. 'dead:' .. node) == 1 then return false end
  if redis.call('EXISTS', ARGV[1] .. 'lease:' .. node, ARGV[1] .. 'grace') > 0 then return true end
  if redis.call('EXISTS', ARGV[1] .. 'lease:' .. ARGV[2]) == 0 then return true end
  redis.call('SET', ARGV[1] .. 'dead:' .. node, '1', 'EX', {MARK})
  return false
end
local function split(entry)
  local space = string.find(entry, ' ', 1, true)
  return string.sub(entry, 1, space - 1), string.sub(entry, space + 1)
end
"""

#: prefix, name, lease in ms, now, key of the storage's writer -> [node, epoch, id of the log's last entry]
JOIN: Final = """
local epoch = redis.call('INCR', ARGV[1] .. 'epoch')
local node = ARGV[2] .. '.' .. epoch
redis.call('SET', ARGV[1] .. 'lease:' .. node, '1', 'PX', ARGV[3])
redis.call('HSET', ARGV[1] .. 'nodes', node, ARGV[4])
redis.call('HSET', ARGV[5], 'fence', node)
for _, name in ipairs({'in:', 'mq:'}) do
  redis.call('XADD', ARGV[1] .. name .. node, '1-1', 'e', '')
  redis.call('XDEL', ARGV[1] .. name .. node, '1-1')
end
local last = redis.call('XADD', ARGV[1] .. 'log', '*', 'e', '')
return {node, epoch, last}
"""

#: prefix, node, lease in ms, whether to inherit -> [0] if it is dead, else [1, nodes that live, nodes whose heir it is]
RENEW: Final = (
    _ALIVE
    + """
if redis.call('EXISTS', ARGV[1] .. 'dead:' .. ARGV[2]) == 1 then return {0} end
if not redis.call('SET', ARGV[1] .. 'lease:' .. ARGV[2], '1', 'PX', ARGV[3], 'GET') then
  redis.call('SET', ARGV[1] .. 'grace', '1', 'PX', ARGV[3])
end
local here, gone = {}, {}
for _, node in ipairs(redis.call('HKEYS', ARGV[1] .. 'nodes')) do
  if node == ARGV[2] or alive(node) then here[#here + 1] = node else
    local heir = redis.call('GET', ARGV[1] .. 'heir:' .. node)
    if ARGV[4] == '1' and (not heir or heir == ARGV[2] or not alive(heir)) then
      redis.call('SET', ARGV[1] .. 'heir:' .. node, ARGV[2], 'EX', 86400)
      gone[#gone + 1] = node
    end
  end
end
return {1, here, gone}
"""
)

#: prefix, heir, dead node -> 1: all that is left of it is forgotten; 0: somebody else is the heir
BURY: Final = """
if redis.call('GET', ARGV[1] .. 'heir:' .. ARGV[3]) ~= ARGV[2] then return 0 end
redis.call('HDEL', ARGV[1] .. 'nodes', ARGV[3])
redis.call('DEL', ARGV[1] .. 'in:' .. ARGV[3], ARGV[1] .. 'mq:' .. ARGV[3], ARGV[1] .. 'heir:' .. ARGV[3])
return 1
"""

#: prefix, node, key of the storage's writer -> it has gone of its own accord: what it had may be taken at once
LEAVE: Final = f"""
redis.call('SET', ARGV[1] .. 'dead:' .. ARGV[2], '1', 'EX', {MARK})
redis.call('DEL', ARGV[1] .. 'lease:' .. ARGV[2])
redis.call('HDEL', ARGV[3], 'fence')
return 1
"""

#: prefix, node, space, key, note, key, note ... -> [1 or 0, entry before, ...]; an error if the node is dead
TAKE: Final = (
    _ALIVE
    + """
if redis.call('EXISTS', ARGV[1] .. 'dead:' .. ARGV[2]) == 1 then
  return redis.error_reply('-FENCED this node is dead')
end
local dir, answer = ARGV[1] .. 'dir:' .. ARGV[3], {}
for i = 4, #ARGV, 2 do
  local entry, node, note = redis.call('HGET', dir, ARGV[i]), '', ''
  if entry then node, note = split(entry) end
  if node ~= ARGV[2] and alive(node) then
    answer[#answer + 1] = 0
  else
    answer[#answer + 1] = 1
    if ARGV[i + 1] ~= '' then note = ARGV[i + 1] end
    redis.call('HSET', dir, ARGV[i], ARGV[2] .. ' ' .. note)
  end
  answer[#answer + 1] = entry or ''
end
return answer
"""
)

#: prefix, node, space, key, note, ...
GIVE: Final = (
    _ALIVE
    + """
local dir = ARGV[1] .. 'dir:' .. ARGV[3]
for i = 4, #ARGV, 2 do
  local entry = redis.call('HGET', dir, ARGV[i])
  if entry and split(entry) == ARGV[2] then
    if ARGV[i + 1] == '' then redis.call('HDEL', dir, ARGV[i])
    else redis.call('HSET', dir, ARGV[i], ' ' .. ARGV[i + 1]) end
  end
end
return 1
"""
)

#: prefix, node, space, key ... -> [node that lives and has it or '', note, ...]
FIND: Final = (
    _ALIVE
    + """
local dir, answer = ARGV[1] .. 'dir:' .. ARGV[3], {}
for i = 4, #ARGV do
  local entry, node, note = redis.call('HGET', dir, ARGV[i]), '', ''
  if entry then node, note = split(entry) end
  if node ~= '' and not alive(node) then node = '' end
  answer[#answer + 1] = node
  answer[#answer + 1] = note
end
return answer
"""
)

#: prefix, node, duty -> 1 if the node has it now
LEAD: Final = (
    _ALIVE
    + """
if redis.call('EXISTS', ARGV[1] .. 'dead:' .. ARGV[2]) == 1 then return 0 end
local key = ARGV[1] .. 'lead:' .. ARGV[3]
local node = redis.call('GET', key)
if node and node ~= ARGV[2] and alive(node) then return 0 end
redis.call('SET', key, ARGV[2])
return 1
"""
)
