-- Products, devices, applications, bindings.
--
--   products        hash  key -> row              applications  hash  id -> row
--   devices         zset  ids, by their bytes     cs_eui        hash  cs_eui -> id        app_cs  hash  id -> cs_eui
--   d:<id>          hash  a device                ba:<application>, bd:<device>   zset  ids: the bindings
--   dev_eui         hash  alias -> id
--   protocol:<p> product:<k> parent:<id> tag:<t> online offline      zset  ids of devices, for lists
--   protocols       set   those that there were devices of
--   on:<node>       set   ids of devices that are online through a node

-- The fields of a device: p protocol, k product, e dev_eui, g parent, y tags with a NUL in between, n name, b all else that is registered, i info,
-- o online, r reason, t since, s last seen, w the node that said so. What there is not is not there.

function OPS.add_product()
    local key, row = text(), text()
    if call('HSETNX', P .. 'products', key, row) == 0 then
        return refuse('conflict', 'there is a product ' .. quoted(key) .. ' already')
    end
end

function OPS.save_product()
    local key, row = text(), text()
    if call('HEXISTS', P .. 'products', key) == 0 then
        return refuse('not-found', 'there is no product ' .. quoted(key))
    end
    call('HSET', P .. 'products', key, row)
end

function OPS.delete_product()
    local key = text()
    if call('EXISTS', P .. 'product:' .. key) == 1 then
        return refuse('conflict', 'devices use the product ' .. quoted(key))
    end
    if call('HDEL', P .. 'products', key) == 0 then
        return refuse('not-found', 'there is no product ' .. quoted(key))
    end
end

function OPS.get_product()
    return call('HGET', P .. 'products', text())
end

function OPS.list_products()
    return call('HVALS', P .. 'products')
end

-- Ids and aliases share one space of names. Why neither may be used, or nil. `itself`: an id that may have them.
local function taken(id, dev_eui, itself)
    if id ~= itself and call('EXISTS', P .. 'd:' .. id) == 1 then
        return 'there is a device ' .. quoted(id) .. ' already'
    end
    local holder = call('HGET', P .. 'dev_eui', id)
    if holder and holder ~= itself then
        return 'the id ' .. quoted(id) .. ' is the dev_eui of device ' .. quoted(holder)
    end
    if dev_eui == '' then
        return nil
    end
    holder = call('HGET', P .. 'dev_eui', dev_eui)
    if not holder and dev_eui ~= id and call('EXISTS', P .. 'd:' .. dev_eui) == 1 then
        holder = dev_eui
    end
    if holder and holder ~= itself then
        return 'the dev_eui ' .. quoted(dev_eui) .. ' is taken by device ' .. quoted(holder)
    end
end

-- What the fields p, k, g, y and e are found by.
local function index(command, id, protocol, product, parent, tags, dev_eui)
    local function go(key)
        if command == 'ZADD' then
            call('ZADD', key, 0, id)
        else
            call('ZREM', key, id)
        end
    end
    go(P .. 'protocol:' .. protocol)
    if command == 'ZADD' then
        call('SADD', P .. 'protocols', protocol)
    end
    for tag in string.gmatch(tags or '', '[^%z]+') do
        go(P .. 'tag:' .. tag)
    end
    if product and product ~= '' then
        go(P .. 'product:' .. product)
    end
    if parent and parent ~= '' then
        go(P .. 'parent:' .. parent)
    end
    if dev_eui and dev_eui ~= '' then
        if command == 'ZADD' then
            call('HSET', P .. 'dev_eui', dev_eui, id)
        else
            call('HDEL', P .. 'dev_eui', dev_eui)
        end
    end
end

-- What is registered of a device, from the arguments.
local function registered()
    return { id = text(), p = text(), k = text(), e = text(), g = text(), y = text(), n = text(), b = text() }
end

local function keep(device)
    local key = P .. 'd:' .. device.id
    for _, field in ipairs({ 'p', 'k', 'e', 'g', 'y', 'n', 'b' }) do
        if device[field] == '' then
            call('HDEL', key, field)
        else
            call('HSET', key, field, device[field])
        end
    end
    index('ZADD', device.id, device.p, device.k, device.g, device.y, device.e)
end

function OPS.add_devices()
    local node, count, answers = text(), number(), {}
    for n = 1, count do
        local device = registered()
        local info, online, reason, since, seen = text(), text(), text(), text(), text()
        local why
        if device.k ~= '' and call('HEXISTS', P .. 'products', device.k) == 0 then
            why = 'there is no product ' .. quoted(device.k)
        else
            why = taken(device.id, device.e, nil)
        end
        if not why then
            keep(device)
            call('ZADD', P .. 'devices', 0, device.id)
            local key = P .. 'd:' .. device.id
            call('HSET', key, 'i', info, 'o', online, 'r', reason, 't', since, 's', seen)
            if online == '1' then
                call('HSET', key, 'w', node)
                call('ZADD', P .. 'online', 0, device.id)
                call('SADD', P .. 'on:' .. node, device.id)
            else
                call('ZADD', P .. 'offline', 0, device.id)
            end
        end
        answers[n] = why or ''
    end
    return answers
end

function OPS.save_device()
    local device = registered()
    local key = P .. 'd:' .. device.id
    if call('EXISTS', key) == 0 then
        return refuse('not-found', 'there is no device ' .. quoted(device.id))
    end
    if device.k ~= '' and call('HEXISTS', P .. 'products', device.k) == 0 then
        return refuse('not-found', 'there is no product ' .. quoted(device.k))
    end
    local why = taken(device.id, device.e, device.id)
    if why then
        return refuse('conflict', why)
    end
    local old = call('HMGET', key, 'p', 'k', 'g', 'y', 'e')
    index('ZREM', device.id, unpack(old, 1, 5))
    keep(device)
end

function OPS.delete_device()
    local id = text()
    local key = P .. 'd:' .. id
    local old = call('HMGET', key, 'p', 'k', 'g', 'y', 'e', 'w')
    if not old[1] then
        return refuse('not-found', 'there is no device ' .. quoted(id))
    end
    index('ZREM', id, unpack(old, 1, 5))
    for _, name in ipairs({ 'devices', 'online', 'offline' }) do
        call('ZREM', P .. name, id)
    end
    if old[6] then
        call('SREM', P .. 'on:' .. old[6], id)
    end
    for _, application in ipairs(call('ZRANGE', P .. 'bd:' .. id, 0, -1)) do
        call('ZREM', P .. 'ba:' .. application, id)
    end
    for _, command in ipairs(call('ZRANGE', P .. 'cd:' .. id, 0, -1)) do
        call('DEL', P .. 'c:' .. command)
        call('ZREM', P .. 'co', command)
        call('ZREM', P .. 'ce', command)
    end
    call('UNLINK', key, P .. 'bd:' .. id, P .. 'cd:' .. id, P .. 'v:' .. id, P .. 'h:' .. id)
end

function OPS.get_device()
    return call('HGETALL', P .. 'd:' .. text())
end

-- protocol, number, protocol, number ...
function OPS.count_devices()
    local found = {}
    for _, protocol in ipairs(call('SMEMBERS', P .. 'protocols')) do
        found[#found + 1] = protocol
        found[#found + 1] = call('ZCARD', P .. 'protocol:' .. protocol)
    end
    return found
end

-- By alias, else by id.
function OPS.find_by_dev_eui()
    local dev_eui = text()
    local id = call('HGET', P .. 'dev_eui', dev_eui) or dev_eui
    return { id, call('HGETALL', P .. 'd:' .. id) }
end

function OPS.save_info()
    local id, info = text(), text()
    if call('EXISTS', P .. 'd:' .. id) == 0 then
        return refuse('not-found', 'there is no device ' .. quoted(id))
    end
    call('HSET', P .. 'd:' .. id, 'i', info)
end

-- The indexes that a query names, the smallest first. "" is no filter.
local function indexes(application, tag, product, parent, protocol, online)
    local keys = {}
    local function add(name, value)
        if value ~= '' then
            keys[#keys + 1] = P .. name .. value
        end
    end
    add('ba:', application)
    add('tag:', tag)
    add('product:', product)
    add('parent:', parent)
    add('protocol:', protocol)
    add('', online)
    if #keys == 0 then
        keys[1] = P .. 'devices'
    end
    local sizes = {}
    for _, key in ipairs(keys) do
        sizes[key] = call('ZCARD', key)
    end
    table.sort(keys, function(one, two) return sizes[one] < sizes[two] end)
    return keys
end

-- Up to `limit` devices behind `after`, in the order of their ids, of the next `budget` in the index. The second
-- answer: the id that was looked at last if there may be more, else "".
function OPS.find_devices()
    local after, limit, budget = text(), number(), number()
    local keys = indexes(text(), text(), text(), text(), text(), text())
    local since, wanted = text(), string.lower(text())
    local first, found = table.remove(keys, 1), {}
    while true do
        local ids = call('ZRANGEBYLEX', first, after, '+', 'LIMIT', 0, STEP)
        for _, id in ipairs(ids) do
            local fits = true
            for _, key in ipairs(keys) do
                fits = fits and call('ZSCORE', key, id)
            end
            local key = P .. 'd:' .. id
            if fits and since ~= '' then
                fits = (tonumber(call('HGET', key, 't') or '') or -math.huge) >= tonumber(since)
            end
            if fits and wanted ~= '' then
                local name = call('HGET', key, 'n') or ''
                fits = string.find(string.lower(id), wanted, 1, true) or string.find(string.lower(name), wanted, 1, true)
            end
            if fits then
                found[#found + 1] = { id, call('HGETALL', key) }
            end
            budget = budget - 1
            if #found == limit or budget == 0 then
                return { found, id }
            end
        end
        if #ids < STEP then
            return { found, '' }
        end
        after = '(' .. ids[#ids]
    end
end

function OPS.add_application()
    local id, cs_eui, row = text(), text(), text()
    if call('HEXISTS', P .. 'applications', id) == 1 then
        return refuse('conflict', 'there is an application ' .. quoted(id) .. ' already')
    end
    if cs_eui ~= '' and call('HSETNX', P .. 'cs_eui', cs_eui, id) == 0 then
        return refuse('conflict', 'the cs_eui ' .. quoted(cs_eui) .. ' is taken')
    end
    call('HSET', P .. 'applications', id, row)
    if cs_eui ~= '' then
        call('HSET', P .. 'app_cs', id, cs_eui)
    end
end

function OPS.save_application()
    local id, cs_eui, row = text(), text(), text()
    if call('HEXISTS', P .. 'applications', id) == 0 then
        return refuse('not-found', 'there is no application ' .. quoted(id))
    end
    local holder = cs_eui ~= '' and call('HGET', P .. 'cs_eui', cs_eui)
    if holder and holder ~= id then
        return refuse('conflict', 'the cs_eui ' .. quoted(cs_eui) .. ' is taken')
    end
    local old = call('HGET', P .. 'app_cs', id)
    if old then
        call('HDEL', P .. 'cs_eui', old)
        call('HDEL', P .. 'app_cs', id)
    end
    if cs_eui ~= '' then
        call('HSET', P .. 'cs_eui', cs_eui, id)
        call('HSET', P .. 'app_cs', id, cs_eui)
    end
    call('HSET', P .. 'applications', id, row)
end

function OPS.delete_application()
    local id = text()
    if call('HDEL', P .. 'applications', id) == 0 then
        return refuse('not-found', 'there is no application ' .. quoted(id))
    end
    local cs_eui = call('HGET', P .. 'app_cs', id)
    if cs_eui then
        call('HDEL', P .. 'cs_eui', cs_eui)
        call('HDEL', P .. 'app_cs', id)
    end
    for _, device in ipairs(call('ZRANGE', P .. 'ba:' .. id, 0, -1)) do
        call('ZREM', P .. 'bd:' .. device, id)
    end
    call('UNLINK', P .. 'ba:' .. id)
end

function OPS.get_application()
    return call('HGET', P .. 'applications', text())
end

function OPS.find_by_cs_eui()
    local id = call('HGET', P .. 'cs_eui', text())
    return id and call('HGET', P .. 'applications', id)
end

function OPS.list_applications()
    return call('HVALS', P .. 'applications')
end

function OPS.bind()
    local application, device = text(), text()
    if call('HEXISTS', P .. 'applications', application) == 0 then
        return refuse('not-found', 'there is no application ' .. quoted(application))
    end
    if call('EXISTS', P .. 'd:' .. device) == 0 then
        return refuse('not-found', 'there is no device ' .. quoted(device))
    end
    call('ZADD', P .. 'ba:' .. application, 0, device)
    call('ZADD', P .. 'bd:' .. device, 0, application)
end

function OPS.unbind()
    local application, device = text(), text()
    if call('ZREM', P .. 'ba:' .. application, device) == 0 then
        local sentence = 'device ' .. quoted(device) .. ' is not bound to application ' .. quoted(application)
        return refuse('not-found', sentence)
    end
    call('ZREM', P .. 'bd:' .. device, application)
end

function OPS.devices_of()
    return call('ZRANGE', P .. 'ba:' .. text(), 0, -1)
end

function OPS.applications_of()
    return call('ZRANGE', P .. 'bd:' .. text(), 0, -1)
end
