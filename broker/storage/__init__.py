"""Registry, command journal, last values and history on disk. `interface` is the contract, `sqlite` the default."""
