"""Speed and memory side by side with aria2, curl and Scrapy's own FilesPipeline. ``python -m bench`` runs it."""
