"""Sources other than HTTP that are read in parts: FTP and SFTP.

Each tells what it knows of a file and reads any range of it; :mod:`.client` makes of that the answers which the
transfer judges, plans and resumes by, so that names, checks, limits and retries are those of HTTP. Knows the protocols;
nothing of part files, plans or limits. The libraries are extras, imported when the first such URL is fetched.
"""
