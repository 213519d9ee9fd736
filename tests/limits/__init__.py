"""Every limit there is, what happens beyond it, and the test that shows it: the rows of docs/limits.md."""
