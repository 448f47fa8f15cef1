"""HTTP as servers speak it: what goes over the wire and what it means. Knows no files on disk, items or queues."""
