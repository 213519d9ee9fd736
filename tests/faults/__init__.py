"""Faults at random on several broker processes and their Redis, under load: `python -m tests.faults`."""
