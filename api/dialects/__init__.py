"""Wire contracts of other services over the service of runs, one package each: their users change only a URL.

A dialect translates requests and answers. It reaches nothing below the services of the API.
"""
