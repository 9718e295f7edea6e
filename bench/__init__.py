"""Measurements of the real service, as ratios taken in one run; see docs/performance.md.

One module is one subject: `measure` takes the figures and `tables` shows them. What they share: `service` (a
service of the bench's own, brought up and taken down by the same commands as a user's), `clients` (HTTP),
`clocks` (what the kernel says of processes and groups), `sampling` (loops and percentiles), `bare` (starting an
interpreter without any service: the yardstick), `report` (tables, the results file, the page in docs/).
"""
