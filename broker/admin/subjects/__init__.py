"""The sub-commands, a file a subject: its options, its calls and the columns of its tables."""
