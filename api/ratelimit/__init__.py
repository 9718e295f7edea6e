"""Limit request rates: token buckets of keys and of addresses.

client_address.py  the client's address behind trusted proxies
bucket.py          a bucket and its decisions
strategy.py        the token bucket as a strategy on the storages of the library `limits`, and in memory
redis.py           the same in Redis or Valkey, for several processes
limiter.py         the buckets of this service, and their rule while Redis is unreachable
"""
