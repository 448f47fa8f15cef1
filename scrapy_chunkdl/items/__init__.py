"""What an item may hold, and how it waits as JSON. Knows values and item types; nothing of Redis, crawls or files."""
