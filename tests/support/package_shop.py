"""A service whose packages come from a registry that the tests fill."""


class Shop:
    """A service whose packages come from the tests' registry."""

    def __init__(self, service, registry, language="python"):
        """`language` is that of the runs that name none."""
        self.service = service
        self.registry = registry
        self._language = language

    def ran(self, code, packages, language=None, **fields):
        """Return a run that was started."""
        reply = self.run(code, packages, language, **fields)
        assert reply.status == 200, reply.body
        return reply.body

    def run(self, code, packages, language=None, **fields):
        body = {"language": language or self._language, "code": code, "packages": packages, **fields}
        token = body.pop("token", self.service.token)
        return self.service.post("/v1/runs", json=body, token=token, timeout=120)

    def refused(self, packages, code="1", language=None):
        reply = self.run(code, packages, language)
        assert reply.status == 400, reply.body
        return reply.body["error"]

    def downloads(self, name):
        return [path for path in self.registry.asked if path.rpartition("/")[2].startswith(name)]
