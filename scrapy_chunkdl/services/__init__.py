"""Whatever is started and stopped: what that means, and the thread that does it so.

Knows threads alone; nothing of what they do. Anybody may call it.
"""
