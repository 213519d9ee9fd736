"""The calls themselves, a file a subject; each file ends in its part of the table of routes."""
