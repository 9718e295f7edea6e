"""The demo of tinirun's contract: a page with an editor, and the server part between it and the service.

settings.py  the variables DEMO_…
bounds.py    rates and places by address
page.py      the page, page.html, with its policy
upstream.py  the call of the service
relay.py     the stream of a run, from the service to the browser
server.py    the HTTP server

The browser sends a program to the server part, which sends it on with the key. Only `lang` and `code` of a request
are used, in a request that is made here; nothing else of what a browser sends reaches the service.
"""
