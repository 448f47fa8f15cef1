"""Text and numbers as people and file systems take them: safe names, encodings, what may be shown, units.

Pure: knows no disk, no network, no settings. Anybody may call it.
"""
