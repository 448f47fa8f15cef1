"""One crawl, on Scrapy's thread. Knows Scrapy and items; downloads go through the bridge, Redis through queue/."""
