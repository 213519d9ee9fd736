"""0x88 gateways that are not there, over TLS: they keep the document's rules for gateways, with a few faults.

::

    gateway.py     SimulatedGateway: one gateway's life       behaviour.py  how it behaves, what it counts, its MAC
    speech.py      ids, repetitions, what is answered         transfers.py  fetching and posting files over HTTPS
    connecting.py  TLS that checks nothing and resumes  memory.py     RAM and flash that fill up
"""
