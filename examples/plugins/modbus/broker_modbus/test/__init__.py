"""Tests: ``python -m twisted.trial broker_modbus``."""
