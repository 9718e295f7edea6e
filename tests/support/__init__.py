"""Processes, programs and doubles that tests of several folders share; none of these modules is a test."""
