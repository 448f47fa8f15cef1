"""Settings of the example project. Those of scrapy-chunkdl come first; the rest is Scrapy and scrapy-redis as usual."""

import logging

BOT_NAME = "reports_project"
SPIDER_MODULES = ["reports_project.spiders"]

# This line is all that scrapy-chunkdl needs: pipeline, extension and Redis protocol are set up by it.
ADDONS = {"scrapy_chunkdl.Addon": 100}

# No Redis of your own? This starts a bundled server for this project, with its data in .scrapy/chunkdl-redis.
# With a Redis of your own, remove the line and set REDIS_URL.
CHUNKDL_EMBEDDED_REDIS = True

CHUNKDL_STORE = "downloads"  # where finished files end up
CHUNKDL_RESULT_FIELD = "download"  # what became of each file is written into this field of its attachment
CHUNKDL_CHECKSUM = "sha256"

# Requests and the filter of seen ones live in Redis, so that several crawls can share the work. They are kept
# when a crawl is stopped: the next one goes on with them.
SCHEDULER = "scrapy_redis.scheduler.Scheduler"
DUPEFILTER_CLASS = "scrapy_redis.dupefilter.RFPDupeFilter"
SCHEDULER_PERSIST = True

# A RedisSpider waits for URLs for ever. This one leaves when none came for some seconds and no download is left.
MAX_IDLE_TIME_BEFORE_CLOSE = 5

FEEDS = {"items.jsonl": {"format": "jsonlines"}}  # appended to

LOG_LEVEL = "INFO"
LOGSTATS_INTERVAL = 2.0  # seconds between two lines of progress
STATS_DUMP = False  # set to True to see the chunkdl/… stats
logging.getLogger("py.warnings").setLevel(logging.ERROR)  # scrapy-redis 0.9.1 passes arguments Scrapy deprecates
TELNETCONSOLE_ENABLED = False
