-- Presence, last values, history, commands.
--
--   v:<device>   hash  key -> "1" (a value) or "0" (unmapped), then the rest, which only the broker reads
--   h:<device>   zset  at -> number(8 bytes) length-of-kind(1) kind, then the rest      n:message   the last number
--   c:<id>       hash  d device, n number, a what never changes, b its state           n:command   the last number
--   cd:<device>  zset  number -> id          co  zset  number -> id: not ended          ce  zset  updated_at -> id: ended

-- History and commands that go in one step of `prune`: each holds up others for some milliseconds at most.
local PRUNED = 5000

function OPS.get_values()
    return call('HGETALL', P .. 'v:' .. text())
end

-- A device that a later presence of another node has moved to is not put off-line by the node that it left.
local function save_presence(node, id, online, reason, since)
    local key = P .. 'd:' .. id
    local old = call('HMGET', key, 'o', 't', 'w')
    if old[3] and old[3] ~= node and (tonumber(old[2] or '') or 0) > tonumber(since) then
        return
    end
    if online ~= old[1] then
        call('ZREM', P .. (online == '1' and 'offline' or 'online'), id)
        call('ZADD', P .. (online == '1' and 'online' or 'offline'), 0, id)
    end
    if old[3] and old[3] ~= node then
        call('SREM', P .. 'on:' .. old[3], id)
    end
    if online == '1' then
        call('SADD', P .. 'on:' .. node, id)
    elseif old[1] == '1' then
        call('SREM', P .. 'on:' .. node, id)
    end
    call('HSET', key, 'o', online, 'r', reason, 't', since, 'w', node)
end

local function save_state(node, id, there)
    local online, reason, since, seen, info = text(), text(), text(), text(), text()
    local key, values = P .. 'd:' .. id, P .. 'v:' .. id
    if there then
        call('HSET', key, 's', seen)
        save_presence(node, id, online, reason, since)
        if info ~= '' then
            call('HSET', key, 'i', info)
        end
    end
    for _ = 1, number() do
        local name, kind = text(), text()
        local held = there and call('HGET', values, name)
        if held and string.sub(held, 1, 1) == kind then
            call('HDEL', values, name)
        end
    end
    for _ = 1, number() do
        local name, value = text(), text()
        if there then
            call('HSET', values, name, value)
        end
    end
end

function OPS.save_live()
    local node = text()
    for _ = 1, number() do
        local id = text()
        save_state(node, id, call('EXISTS', P .. 'd:' .. id) == 1)
    end
end

-- Some devices of a node that is gone; how many are left.
function OPS.mark_offline()
    local node, at, limit = text(), text(), number()
    local key = P .. 'on:' .. node
    for _, id in ipairs(call('SRANDMEMBER', key, limit)) do
        if call('HGET', P .. 'd:' .. id, 'w') == node then
            call('ZREM', P .. 'online', id)
            call('ZADD', P .. 'offline', 0, id)
            call('HSET', P .. 'd:' .. id, 'o', '0', 'r', 'restart', 't', at)
        end
        call('SREM', key, id)
    end
    return call('SCARD', key)
end

-- History.

function OPS.add_messages()
    for _ = 1, number() do
        local id, count = text(), number()
        local there = call('EXISTS', P .. 'd:' .. id) == 1
        local last = there and call('INCRBY', P .. 'n:message', count)
        local list = {}
        for n = 1, count do
            local at, rest = text(), text()
            list[2 * n - 1] = at
            list[2 * n] = there and struct.pack('>I8', last - count + n) .. rest
        end
        if there then
            call_many('ZADD', P .. 'h:' .. id, list, 2)
        end
    end
end

-- The device's protocol, and, newest first: member, score, member, score ...
function OPS.list_messages()
    local id = text()
    local key, protocol = P .. 'h:' .. id, call('HGET', P .. 'd:' .. id, 'p')
    local kind, since, before, limit = text(), text(), text(), number()
    local at, last = tonumber(text()), number()
    local high, offset, found = '+inf', 0, {}
    if before ~= '' then
        high = '(' .. before
    end
    if at and (before == '' or at < tonumber(before)) then
        high = at
    end
    while true do
        local rows = call('ZREVRANGEBYSCORE', key, high, since, 'WITHSCORES', 'LIMIT', offset, STEP)
        for n = 1, #rows, 2 do
            local row, score = rows[n], rows[n + 1]
            local size = string.byte(row, 9)
            local seen = at and tonumber(score) == at and struct.unpack('>I8', row) >= last
            if not seen and (kind == '' or string.sub(row, 10, 9 + size) == kind) then
                found[#found + 1] = row
                found[#found + 1] = score
                if #found == 2 * limit then
                    return { protocol, found }
                end
            end
        end
        if #rows < 2 * STEP then
            return { protocol, found }
        end
        offset = offset + STEP
    end
end

-- Of the next devices behind `after`: what is too old or too much goes. How much went, and the last device, or "".
function OPS.prune_messages()
    local after, before, per_device = text(), text(), number()
    local gone, ids = 0, call('ZRANGEBYLEX', P .. 'devices', after, '+', 'LIMIT', 0, STEP)
    for _, id in ipairs(ids) do
        local key = P .. 'h:' .. id
        gone = gone + call('ZREMRANGEBYSCORE', key, '-inf', '(' .. before)
        gone = gone + call('ZREMRANGEBYRANK', key, 0, -per_device - 1)
        if gone >= PRUNED then
            return { gone, id }
        end
    end
    return { gone, #ids == STEP and ids[STEP] or '' }
end

-- Commands.

function OPS.add_command()
    local device, id, always, state = text(), text(), text(), text()
    local ended, updated_at = text(), text()
    if call('EXISTS', P .. 'c:' .. id) == 1 then
        return refuse('conflict', 'there is a command of this id already')
    end
    if call('EXISTS', P .. 'd:' .. device) == 0 then
        return refuse('not-found', 'there is no device ' .. quoted(device))
    end
    local n = call('INCR', P .. 'n:command')
    call('HSET', P .. 'c:' .. id, 'd', device, 'n', n, 'a', always, 'b', state)
    call('ZADD', P .. 'cd:' .. device, n, id)
    if ended == '1' then
        call('ZADD', P .. 'ce', updated_at, id)
    else
        call('ZADD', P .. 'co', n, id)
    end
end

-- One that is gone, because its device was removed, has nothing to keep: that is no error.
function OPS.save_command()
    local id, state, ended, updated_at = text(), text(), text(), text()
    local n = call('HGET', P .. 'c:' .. id, 'n')
    if not n then
        return
    end
    call('HSET', P .. 'c:' .. id, 'b', state)
    if ended == '1' then
        call('ZREM', P .. 'co', id)
        call('ZADD', P .. 'ce', updated_at, id)
    else
        call('ZREM', P .. 'ce', id)
        call('ZADD', P .. 'co', n, id)
    end
end

local function remove_command(id)
    local device = call('HGET', P .. 'c:' .. id, 'd')
    if device then
        call('DEL', P .. 'c:' .. id)
        call('ZREM', P .. 'cd:' .. device, id)
        call('ZREM', P .. 'co', id)
        call('ZREM', P .. 'ce', id)
    end
end

function OPS.remove_command()
    remove_command(text())
end

local function command(id)
    local row = call('HMGET', P .. 'c:' .. id, 'd', 'a', 'b', 'n')
    return row[1] and { id, row[1], call('HGET', P .. 'd:' .. row[1], 'p') or '', row[2], row[3], row[4] }
end

function OPS.get_command()
    return command(text())
end

-- Those that have not ended and have a greater number than `after`, oldest first.
function OPS.open_commands()
    local after, limit, found = text(), number(), {}
    for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'co', '(' .. after, '+inf', 'LIMIT', 0, limit)) do
        found[#found + 1] = command(id)
    end
    return found
end

-- Newest first.
function OPS.list_commands()
    local device, before, limit, found = text(), text(), number(), {}
    for _, id in ipairs(call('ZREVRANGEBYSCORE', P .. 'cd:' .. device, '(' .. before, '-inf', 'LIMIT', 0, limit)) do
        found[#found + 1] = command(id)
    end
    return found
end

function OPS.prune_commands()
    local before, limit = text(), number()
    local ids = call('ZRANGEBYSCORE', P .. 'ce', '-inf', '(' .. before, 'LIMIT', 0, limit)
    for _, id in ipairs(ids) do
        remove_command(id)
    end
    return #ids
end
