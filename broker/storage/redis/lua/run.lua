-- The runners. Each operation in ARGV: name, how many arguments, arguments. Each answer: a list of one value, or of a
-- kind of refusal and a sentence. An operation that fails by a fault of ours does not touch its neighbours.

local function run(first)
    local answers, at = {}, first
    while ARGV[at] do
        pos = at + 2
        local fine, value, kind, sentence = pcall(OPS[ARGV[at]])
        if not fine then
            answers[#answers + 1] = { 'fault', ARGV[at] .. ': ' .. tostring(type(value) == 'table' and value.err or value) }
        elseif kind then
            answers[#answers + 1] = { kind, sentence }
        else
            answers[#answers + 1] = { value or false }
        end
        at = at + 2 + tonumber(ARGV[at + 1])
    end
    return answers
end

-- Those of changes, packed; "" if all of them are plain. `kinds`: a "w" or "r" for each operation.
local function kept(answers, kinds)
    local found, plain = {}, true
    for n, answer in ipairs(answers) do
        local is_change = string.sub(kinds, n, n) == 'w'
        found[n] = is_change and answer or { false }
        plain = plain and (not is_change or not (answer[1] or answer[2]))
    end
    return plain and '' or cmsgpack.pack(found)
end

-- A batch of a writer. ARGV: "batch", node, epoch, number, kinds, operations. What comes from a connection that was
-- given up finds another epoch. The answers are kept until the next batch, for a writer that did not hear them.
local function batch()
    local key = P .. 'writer:' .. ARGV[2]
    local held = call('HMGET', key, 'epoch', 'fence')
    if held[1] ~= ARGV[3] then
        return { held[1] and 'stale' or 'lost' }
    end
    -- What the process has of its own, others have taken over by now: see `broker.cluster`.
    if held[2] and call('EXISTS', P .. 'c:dead:' .. held[2]) == 1 then
        return { 'fenced' }
    end
    local answers = run(6)
    call('HSET', key, 'number', ARGV[4], 'answers', kept(answers, ARGV[5]))
    return { 'ok', answers }
end

if ARGV[1] == 'batch' then
    return batch()
elseif ARGV[1] == 'claim' then
    pos = 2
    return claim()
end
return { 'ok', run(2) }
