"""Any bytes, for every decoder and every listener: nothing but the documented outcomes. `python -m tests.fuzz`."""
