"""What everything speaks of: messages, errors, names and interfaces. No I/O, no Twisted."""
