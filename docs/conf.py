"""Sphinx reads this. ``make docs`` writes the pages to ``docs/_build``."""

import scrapy_chunkdl

project = "scrapy-chunkdl"
version = release = scrapy_chunkdl.__version__
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
html_theme = "furo"
html_title = f"scrapy-chunkdl {release}"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
