-- Who writes, and what was written last.
--
--   writer:<node>   hash  token, details: the process that has the name; epoch: of its connection;
--                         number, answers: of its last batch
--   nodes           zset  until (milliseconds of Redis's clock) -> node: who is there
--   schema          hash  version, id

local function now()
    local time = call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A process takes over a name, or comes back with a new connection. ARGV: node, token, "fresh" or "again", the token of
-- a holder that is known to be dead, milliseconds to live, details.
local function claim()
    local node, token, mode, dead, ttl, details = text(), text(), text(), text(), number(), text()
    local key = P .. 'writer:' .. node
    local held = call('HMGET', key, 'token', 'details')
    if mode == 'again' then
        if not held[1] then
            return { 'lost' }
        elseif held[1] ~= token then
            return { 'stale', held[2] }
        end
    else
        local left = (tonumber(call('ZSCORE', P .. 'nodes', node)) or 0) - now()
        if held[1] and held[1] ~= token and held[1] ~= dead and left > 0 then
            return { 'held', held[1], held[2] }
        end
        call('HSET', key, 'number', 0, 'answers', '', 'token', token, 'details', details)
        -- That others took over from the one before is nothing to a new process; the epoch shuts that one out.
        call('HDEL', key, 'fence')
    end
    call('ZADD', P .. 'nodes', now() + ttl, node)
    local epoch = call('HINCRBY', key, 'epoch', 1)
    local last = call('HMGET', key, 'number', 'answers')
    return { 'ok', epoch, tonumber(last[1]), last[2] ~= '' and cmsgpack.unpack(last[2]) or {} }
end

function OPS.renew()
    local node, ttl = text(), number()
    call('ZADD', P .. 'nodes', now() + ttl, node)
end

function OPS.leave()
    call('ZREM', P .. 'nodes', text())
end

-- Names of nodes that have left devices online and whose time is over.
function OPS.dead_nodes()
    local found, at = {}, now()
    for _, node in ipairs(call('HKEYS', P .. 'node_names')) do
        if (tonumber(call('ZSCORE', P .. 'nodes', node)) or 0) <= at then
            found[#found + 1] = node
        end
    end
    return found
end

function OPS.name_node()
    call('HSET', P .. 'node_names', text(), now())
end

-- Those whose time is not over: name, details, name, details ...
function OPS.live_nodes()
    local found = {}
    for _, node in ipairs(call('ZRANGEBYSCORE', P .. 'nodes', '(' .. now(), '+inf')) do
        found[#found + 1] = node
        found[#found + 1] = call('HGET', P .. 'writer:' .. node, 'details') or ''
    end
    return found
end

function OPS.forget_node()
    local node = text()
    if call('EXISTS', P .. 'on:' .. node) == 0 then
        call('HDEL', P .. 'node_names', node)
    end
end

-- The version that is there, the id of this database, whether a copy into it is not whole, and whether somebody copies
-- it. ARGV: version of the broker, a new id, the copier's name.
function OPS.schema()
    local version, id, copier = text(), text(), text()
    if call('EXISTS', P .. 'schema') == 0 then
        call('HSET', P .. 'schema', 'version', version, 'id', id)
    end
    local found = call('HMGET', P .. 'schema', 'version', 'id')
    local copied = (tonumber(call('ZSCORE', P .. 'nodes', copier)) or 0) > now()
    return { found[1], found[2], call('EXISTS', P .. 'copying'), copied and 1 or 0 }
end

-- Write something of some size and take it back: it fails when work would fail.
function OPS.probe()
    call('SET', P .. 'probe', string.rep('0', number()))
    call('DEL', P .. 'probe')
end

-- Copies (`broker.storage.copying`). `copying` is a hash of notes that is there while the target is not whole; a source
-- only has the name of its copier among the nodes.

-- The copier is there. ARGV: its name, who it is, milliseconds to live.
function OPS.begin_copy()
    local node, details, ttl = text(), text(), number()
    call('HSET', P .. 'writer:' .. node, 'details', details)
    call('ZADD', P .. 'nodes', now() + ttl, node)
end

-- How far a copy of a table has come.
function OPS.copied()
    local name, cursor = text(), text()
    call('HSET', P .. 'copying', name, cursor)
end

-- Rows as they were, with their numbers: a reading, a message, a command.
function OPS.load_values()
    local device, list = text(), {}
    for n = 1, number() do
        list[n] = text()
    end
    call_many('HSET', P .. 'v:' .. device, list, 2)
end

local function at_least(key, n)
    if (tonumber(call('GET', key) or '') or 0) < n then
        call('SET', key, n)
    end
end

function OPS.load_messages()
    local device, list, highest = text(), {}, 0
    for n = 1, number(), 2 do
        local at, row = text(), text()
        list[n] = at
        list[n + 1] = row
        highest = math.max(highest, (struct.unpack('>I8', row)))
    end
    call_many('ZADD', P .. 'h:' .. device, list, 2)
    at_least(P .. 'n:message', highest)
end

function OPS.load_command()
    local device, id, n, always, state = text(), text(), number(), text(), text()
    local ended, updated_at = text(), text()
    call('HSET', P .. 'c:' .. id, 'd', device, 'n', n, 'a', always, 'b', state)
    call('ZADD', P .. 'cd:' .. device, n, id)
    if ended == '1' then
        call('ZADD', P .. 'ce', updated_at, id)
    else
        call('ZADD', P .. 'co', n, id)
    end
    at_least(P .. 'n:command', n)
end
