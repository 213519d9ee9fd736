"""Decides who gets what: router, live devices, topic index, outbox, command life cycle. Synchronous, no sockets."""
