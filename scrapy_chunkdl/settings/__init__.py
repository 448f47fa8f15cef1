"""The settings: which there are, how one value is read, and what is wrong with it. Knows nothing of who asks."""
