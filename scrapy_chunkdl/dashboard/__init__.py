"""The live page for operators: what the queues and their processes do, and what may be asked of them."""
