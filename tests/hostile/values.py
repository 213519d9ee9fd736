"""JSON texts that nobody means well with."""

from __future__ import annotations

#: Texts of JSON values that hardly ever are what is wanted.
VALUES: tuple[str, ...] = (
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "1e308",
    "1e999",
    "-1e999",
    "9" * 400,
    "-" + "9" * 30,
    "9" * 5000,
    "NaN",
    "Infinity",
    "-Infinity",
    '""',
    '"x"',
    '"\\u0000"',
    '"\\ud800"',
    '"' + "x" * 3000 + '"',
    "[]",
    "[[[[]]]]",
    "{}",
    '{"":""}',
    '{"a":{"b":[{"c":null}]}}',
    "'x'",
    "nope",
    "",
)

#: A hundred thousand brackets or nearly, and never a closing one; short enough for a line of every protocol.
DEEP: tuple[str, ...] = ("[" * 100_000, '[{"a":' * 20_000, '{"a":' * 20_000)
