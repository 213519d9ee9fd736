"""Simulated LoRaWAN: the air with its losses, gateways, motes, and a network server on a clock that jumps.

::

    plans      what a mote knows of its region         traits    what a mote is like, and how one misbehaves
    session    frames of the device's side             mac       what a mote does with MAC commands
    mote       joins, speaks, listens, repeats         tally     what one mote counts
    radio      path loss, noise, capture: numbers      air       who is sending now, and who hears it
    forwarder  a gateway: demodulators and a queue     links     from it to a broker: UDP, or in this process
    clock      simulated time                          inside    a broker in this process, on that clock; memory
    town       where things stand, and how they are    day       all of it for some hours
               set                                     ledger    emissions, and the fullest hour
                                                       report    what came of a day; tables: for people
"""
