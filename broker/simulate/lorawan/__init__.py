"""Simulated LoRaWAN: the air with its losses, gateways, motes, and a network server on a clock that jumps.

::

    plans    what a mote knows of its region
    session  frames and cryptography of the device's side          mac     what a mote does with MAC commands
    mote     joins, speaks, listens in its windows, repeats        traits  what a mote is like, and how one misbehaves
    radio    path loss, noise, capture: numbers of the physical layer
    air      who is sending now, and who hears it
    forwarder  a gateway, with its demodulators and its queue      links   from it to a broker: UDP, or in process
    clock    simulated time                                        inside  a broker in this process, on that clock
    day      all of it for some hours                              ledger, report   what came of it
"""
