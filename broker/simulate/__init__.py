"""Devices and applications that speak each protocol as their makers do: for demos, tests and load."""
