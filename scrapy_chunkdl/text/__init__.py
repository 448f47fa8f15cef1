"""Text and numbers as people and file systems take them: safe names, encodings, what may be shown, figures.

Pure: knows no disk, no network, no settings. Anybody may call it.
"""
