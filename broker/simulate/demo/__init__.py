"""``python -m broker.simulate demo``: the real broker with its defaults, devices of every protocol, every application.

::

    run            from the start to the end: the broker, everybody on stage, Ctrl-C
    places         where the broker listens
    cast           who takes part: products, devices, applications
    enrolment      all of them registered through the API
    devices        NovaCloud, 0x88, Gizwits             field          LoRaWAN: packet forwarders and motes
    applications   mqtt_apps, http_apps, gizwits_apps, customer_app
    turns          whose turn it is to command what     orders         what devices are told, in each form
    troubles       what goes wrong now and then         campaign       a firmware update, where there are campaigns
    board          what was seen of each protocol by each application
    lines, table   the board on the screen              words          what devices say, for people
"""
