"""Every protocol for an hour, and whether the broker is as large afterwards as it was before: `make soak`."""
