"""What can be configured: the tables and their defaults, and how text becomes them."""
