-- Records: what protocols keep for themselves, in tables of their own.
--
--   r:<table>    hash  key -> value          rk:<table>   zset  the keys, by their bytes

-- Nothing is changed before every expectation was looked at, each behind the changes that come before it.
local function expectations_hold(changes)
    local now = {}
    for _, change in ipairs(changes) do
        local place = #change.name .. ':' .. change.name .. change.key
        if change.mode ~= 'any' then
            local found = now[place]
            if found == nil then
                found = call('HGET', P .. 'r:' .. change.name, change.key)
            end
            if change.mode == 'none' and found or change.mode == 'same' and found ~= change.expected then
                return false, change
            end
        end
        now[place] = change.value or false
    end
    return true
end

local function remove(change)
    if call('HDEL', P .. 'r:' .. change.name, change.key) == 1 then
        call('ZREM', P .. 'rk:' .. change.name, change.key)
    end
end

-- Neighbours of one table are put together.
local function put(changes, first)
    local name, values, keys, last = changes[first].name, {}, {}, first
    while last <= #changes and changes[last].value and changes[last].name == name do
        values[#values + 1] = changes[last].key
        values[#values + 1] = changes[last].value
        keys[#keys + 1] = 0
        keys[#keys + 1] = changes[last].key
        last = last + 1
    end
    call_many('HSET', P .. 'r:' .. name, values, 2)
    call_many('ZADD', P .. 'rk:' .. name, keys, 2)
    return last
end

function OPS.write_records()
    local changes = {}
    for n = 1, number() do
        local change = { name = text(), key = text(), mode = text() }
        if change.mode == 'same' then
            change.expected = text()
        end
        if text() == 'put' then
            change.value = text()
        end
        changes[n] = change
    end
    local holds, culprit = expectations_hold(changes)
    if not holds then
        local sentence = 'the record ' .. quoted(culprit.key) .. ' of ' .. culprit.name .. ' is another one than expected'
        return refuse('conflict', sentence)
    end
    local n = 1
    while n <= #changes do
        if changes[n].value then
            n = put(changes, n)
        else
            remove(changes[n])
            n = n + 1
        end
    end
end

function OPS.get_record()
    local name, key = text(), text()
    return call('HGET', P .. 'r:' .. name, key)
end

-- `low` and `high`: as ZRANGEBYLEX has them. key, value, key, value ...
function OPS.list_records()
    local name, low, high, limit = text(), text(), text(), number()
    local keys, found = call('ZRANGEBYLEX', P .. 'rk:' .. name, low, high, 'LIMIT', 0, limit), {}
    for first = 1, #keys, MANY do
        local last = math.min(first + MANY - 1, #keys)
        local values = call('HMGET', P .. 'r:' .. name, unpack(keys, first, last))
        for n = first, last do
            found[#found + 1] = keys[n]
            found[#found + 1] = values[n - first + 1]
        end
    end
    return found
end
