"""Layers: the packages of a request, unpacked once into a directory that runs then read."""
