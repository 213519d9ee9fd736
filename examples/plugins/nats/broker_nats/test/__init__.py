"""Tests: ``python -m twisted.trial broker_nats``."""
