"""Building a current gVisor: which revision, of which modules, with which compiler, every one by its hash."""
