"""The HTTP server: connections, requests on their way, whose turn it is, and answers on theirs."""
