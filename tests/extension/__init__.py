"""What packages of others may rely on: the public names, the guide, the examples."""
