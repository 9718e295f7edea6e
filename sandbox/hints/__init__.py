"""Hints: the reason why a run failed, and the remedy, for people and for models that write programs.

`derive.py` puts together the hints of one run. Those that the kernel or the host's own clock know come first
(`facts.py`). The others are read from the output by the rows of two tables (`rules.py`, `language_rules.py`): a
row is a pattern that is tried on a bounded part of the output. A program can print any of these messages, so a
hint says nothing about another run, changes nothing, and quotes little.

No module here reads or writes anything of a sandbox. `modules.py` lists the modules of an image from its layers.
"""
