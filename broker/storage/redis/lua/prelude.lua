-- What all operations share. A script is: a first line with its flags, this, the operations, and a runner.
-- KEYS[1]: what every key begins with. ARGV: see the runners; each operation takes its own arguments from there.
local P = KEYS[1]
local call = redis.call
-- Arguments that fit on Lua's stack in one call, and devices that one look at an index may go through.
local MANY = 1000
local STEP = 200
-- The next argument.
local pos = 1
local OPS = {}

local function text()
    local value = ARGV[pos]
    pos = pos + 1
    return value
end

local function number()
    return tonumber(text())
end

-- Call a command with a list of any length behind its fixed arguments, in pieces of whole `width`.
local function call_many(command, key, list, width)
    local step = MANY - MANY % width
    local sum = 0
    for first = 1, #list, step do
        local answer = call(command, key, unpack(list, first, math.min(first + step - 1, #list)))
        sum = sum + (tonumber(answer) or 0)
    end
    return sum
end

-- An operation refuses by `return refuse(kind, sentence)`; it has changed nothing then.
local function refuse(kind, sentence)
    return nil, kind, sentence
end

local function quoted(name)
    return "'" .. name .. "'"
end
