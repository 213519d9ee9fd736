"""MQTT conformance, from the outside: cases that any server of 3.1, 3.1.1 and 5.0 can be held against, over sockets.

`rows*` are sequences of bytes, most of them malformed or forbidden, with the exact answer and whether the connection
ends; `scenarios*` are what clients do with each other. Nothing here knows whose server it is. What the standard leaves
open is as the configuration `examples/open.toml` promises and, for rows, as the test tables of other servers have it.

`python -m tests.conformance --port N` runs all of it against a server that is running already.
"""
