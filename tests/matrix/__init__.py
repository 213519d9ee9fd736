"""The bridge matrix: every device protocol with every kind of application, over real sockets, in one broker.

::

    stage      the broker (one twistd process for everything), and who is registered with it
    plugin     the third-party protocol, installed as a package of its own
    devices    one device of each protocol: those of broker.simulate, and a Modbus slave
    sides      what applications have in common        mqtt_side gizwits_side customer_side http_side: one of each kind
    run        the phases: presence, uplink, command, refusal, rights; all cells of a phase at the same time
    page       docs/matrix.md

``python -m tests.matrix`` (``make matrix``) writes the page anew.
"""
