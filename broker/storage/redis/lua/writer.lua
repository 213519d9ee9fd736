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

-- The version that is there, and the id of this database. ARGV: version of the broker, a new id.
function OPS.schema()
    local version, id = text(), text()
    if call('EXISTS', P .. 'schema') == 0 then
        call('HSET', P .. 'schema', 'version', version, 'id', id)
    end
    return call('HMGET', P .. 'schema', 'version', 'id')
end

-- Write something of some size and take it back: it fails when work would fail.
function OPS.probe()
    call('SET', P .. 'probe', string.rep('0', number()))
    call('DEL', P .. 'probe')
end
