"""``python -m broker.admin`` (and ``broker-admin``): the administrator's command line over the HTTP API.

::

    command line ──> subjects/  a file a subject: options, calls, columns
                        │  │
                        │  └──> output   tables, JSON lines, progress bars        stdout; notes and bars: stderr
                        └─────> client   HTTP/1.1, blocking; live: the stream     the token, TLS

It speaks to a broker only as any other client does, here or elsewhere, so nothing in here imports anything of the
broker but its JSON reader. What devices have said is shown with control characters escaped: a name must not be able to
move the cursor of the one who reads it.
"""
