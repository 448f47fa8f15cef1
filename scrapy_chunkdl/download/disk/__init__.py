"""Files on disk: which is which, how they grow and get their names, and what a platform may lack for that."""
