"""How much may be asked of a host, and how fast bytes may come. Knows hosts and time; nothing of files."""
