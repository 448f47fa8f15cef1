"""The settings: which there are, how one value is read, and what is wrong with it.

Knows values alone; nothing of who asks. Whoever is made from settings calls it.
"""
