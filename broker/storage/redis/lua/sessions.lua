-- The journal of MQTT sessions.
--
--   sessions      hash  number -> record            seen          hash  number -> when it lost its connection
--   subs:<n>      hash  filter -> options           q:<n>         zset  seq -> seq(5 bytes) message
--   in:<n>        set   packet ids                  wills         hash  number -> will
--   retained      hash  topic -> message            retained:t    zset  the topics, by their bytes
--   box:<n>       zset  place -> mark(16 bytes) message: what other processes have for the session
--   boxes         set   sessions with something in the box     boxed   the last place
--   c:log, c:mq:<node>, c:ch   streams of `broker.cluster`, and its channel
--
-- A batch is what `session_batch` made of the ops, in sections: only those that there are, in the order in which they are
-- to be done. Each list has its length in front. What concerns a session that is not there has no effect.

-- Bytes of a message that stay when it is released: the number and the head.
local HEAD = 20
-- Messages whose size is summed up in one step, when sessions are loaded.
local SUMMED = 2000

local known

local function there(session)
    if known[session] == nil then
        known[session] = call('HEXISTS', P .. 'sessions', session) == 1
    end
    return known[session]
end

local function list()
    local count, found = number(), {}
    for n = 1, count do
        found[n] = text()
    end
    return found
end

-- For each session of the next group: its number and its list.
local function each(act)
    for _ = 1, number() do
        local session = text()
        local items = list()
        if there(session) then
            act(session, items)
        end
    end
end

local function release(session, seqs)
    local key = P .. 'q:' .. session
    for _, seq in ipairs(seqs) do
        local row = call('ZRANGEBYSCORE', key, seq, seq)[1]
        if row and #row > HEAD then
            call('ZREM', key, row)
            call('ZADD', key, seq, string.sub(row, 1, HEAD))
        end
    end
end

-- first, last, first, last ...
local function settle(session, runs)
    for n = 1, #runs, 2 do
        call('ZREMRANGEBYSCORE', P .. 'q:' .. session, runs[n], runs[n + 1])
    end
end

local function put_into_box(session, rows)
    for _, row in ipairs(rows) do
        call('ZADD', P .. 'box:' .. session, call('INCR', P .. 'boxed'), row)
    end
    call('SADD', P .. 'boxes', session)
end

-- "place mark", or whole rows that are taken back.
local function take_out_of_box(session, ids)
    local key = P .. 'box:' .. session
    for _, id in ipairs(ids) do
        local place = string.match(id, '^(%d+) ')
        if place and #id == #place + 17 then
            call('ZREMRANGEBYSCORE', key, place, place)
        else
            call('ZREM', key, id)
        end
    end
    if call('EXISTS', key) == 0 then
        call('SREM', P .. 'boxes', session)
    end
end

-- What a batch may have. Each takes its own arguments.
local SECTIONS = {
    released = function() each(release) end,
    settled = function() each(settle) end,
    boxes = function() each(put_into_box) end,
    taken = function() each(take_out_of_box) end,
}

function SECTIONS.sessions()
    call_many('HSET', P .. 'sessions', list(), 2)
end

function SECTIONS.seen()
    local times = list()
    for n = 1, #times, 2 do
        if there(times[n]) then
            call('HSET', P .. 'seen', times[n], times[n + 1])
        end
    end
end

function SECTIONS.puts()
    each(function(session, rows) call_many('ZADD', P .. 'q:' .. session, rows, 2) end)
end

function SECTIONS.outs()
    each(function(session, ids) call_many('SREM', P .. 'in:' .. session, ids, 1) end)
end

function SECTIONS.ins()
    each(function(session, ids) call_many('SADD', P .. 'in:' .. session, ids, 1) end)
end

function SECTIONS.retained()
    local kept, gone = list(), list()
    if #kept > 0 then
        call_many('HSET', P .. 'retained', kept, 2)
        local topics = {}
        for n = 1, #kept, 2 do
            topics[#topics + 1] = 0
            topics[#topics + 1] = kept[n]
        end
        call_many('ZADD', P .. 'retained:t', topics, 2)
    end
    call_many('HDEL', P .. 'retained', gone, 1)
    call_many('ZREM', P .. 'retained:t', gone, 1)
end

function SECTIONS.subscribed()
    each(function(session, given) call_many('HSET', P .. 'subs:' .. session, given, 2) end)
end

function SECTIONS.unsubscribed()
    each(function(session, gone) call_many('HDEL', P .. 'subs:' .. session, gone, 1) end)
end

function SECTIONS.wills()
    call_many('HSET', P .. 'wills', list(), 2)
    call_many('HDEL', P .. 'wills', list(), 1)
end

function SECTIONS.sent()
    local sent = list()
    for n = 1, #sent, 2 do
        if sent[n] == 'log' then
            call('XADD', P .. 'c:log', 'MAXLEN', '~', 100000, '*', 'e', sent[n + 1])
        elseif sent[n] == 'ch' then
            call('PUBLISH', P .. 'c:ch', sent[n + 1])
        elseif not call('XADD', P .. 'c:' .. sent[n], 'NOMKSTREAM', '*', 'e', sent[n + 1]) then
            -- That process has been buried, and who sends this does not know yet: what is for a group comes back.
            local own = call('HGET', P .. 'writer:' .. ARGV[2], 'fence')
            if own then
                call('XADD', P .. 'c:mq:' .. own, 'NOMKSTREAM', '*', 'back', sent[n + 1])
            end
        end
    end
end

function SECTIONS.read()
    local read = list()
    for n = 1, #read, 2 do
        call('XDEL', P .. 'c:' .. read[n], read[n + 1])
    end
end

function SECTIONS.dropped()
    for _, session in ipairs(list()) do
        call('HDEL', P .. 'sessions', session)
        call('HDEL', P .. 'seen', session)
        call('SREM', P .. 'boxes', session)
        call('UNLINK', P .. 'q:' .. session, P .. 'in:' .. session, P .. 'subs:' .. session, P .. 'box:' .. session)
    end
end

function OPS.sessions()
    known = {}
    for _ = 1, number() do
        SECTIONS[text()]()
    end
end

-- place, row, place ...: up to the limit.
-- Whether others have taken over what that process had; what it has not read it would deliver too late, behind what
-- they have moved on. "" is no process: nobody else is there.
local function has_lost(node)
    return node ~= '' and call('EXISTS', P .. 'c:dead:' .. node) == 1
end

local TAKEN_OVER = 'another process has taken over what this one had'

function OPS.load_box()
    local session, after, limit, node = text(), text(), number(), text()
    if has_lost(node) then
        return refuse('unavailable', TAKEN_OVER)
    end
    return call('ZRANGEBYSCORE', P .. 'box:' .. session, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
end

function OPS.load_boxes()
    return call('SMEMBERS', P .. 'boxes')
end

function OPS.session_numbers()
    return call('HKEYS', P .. 'sessions')
end

local function sum(key, from)
    local size = 0
    for _, row in ipairs(call('ZRANGE', key, from, from + SUMMED - 1)) do
        size = size + #row - HEAD
    end
    return size
end

-- Of each: record, seen, subscriptions, the last seq, messages, their bytes (-1: too many for this step).
function OPS.load_sessions()
    local found = {}
    for _, session in ipairs(list()) do
        local record = call('HGET', P .. 'sessions', session)
        if record then
            local key = P .. 'q:' .. session
            local count = call('ZCARD', key)
            local last = call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] or '0'
            local size = count > STEP and -1 or sum(key, 0)
            local seen = call('HGET', P .. 'seen', session)
            found[#found + 1] = { session, record, seen, call('HGETALL', P .. 'subs:' .. session), last, count, size }
        end
    end
    return found
end

function OPS.sum_queue()
    local session, from = text(), number()
    return { sum(P .. 'q:' .. session, from), SUMMED }
end

function OPS.load_queue()
    local session, after, limit, node = text(), text(), number(), text()
    if has_lost(node) then
        return refuse('unavailable', TAKEN_OVER)
    end
    return call('ZRANGEBYSCORE', P .. 'q:' .. session, '(' .. after, '+inf', 'LIMIT', 0, limit)
end

function OPS.load_incoming()
    return call('SMEMBERS', P .. 'in:' .. text())
end

-- topic, message, topic, message ...
function OPS.load_retained()
    local after, limit, found = text(), number(), {}
    local topics = call('ZRANGEBYLEX', P .. 'retained:t', '(' .. after, '+', 'LIMIT', 0, limit)
    for first = 1, #topics, MANY do
        local last = math.min(first + MANY - 1, #topics)
        local rows = call('HMGET', P .. 'retained', unpack(topics, first, last))
        for n = first, last do
            found[#found + 1] = topics[n]
            found[#found + 1] = rows[n - first + 1]
        end
    end
    return found
end

function OPS.load_wills()
    return call('HVALS', P .. 'wills')
end
