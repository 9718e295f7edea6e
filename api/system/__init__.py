"""The service itself: health, languages, documentation, the web page, disk space, the instance's lease."""
