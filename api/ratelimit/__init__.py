"""Limit request rates: token buckets of keys and of addresses.

addresses.py   whose request it is, behind proxies that are believed
bucket.py      what a bucket is, and what it said
strategy.py    the token bucket as a strategy on the storages of the library `limits`, and in memory
shared.py      the same in Redis or Valkey, for several processes
limiter.py     the buckets of this service, and what holds while Redis is away
"""
