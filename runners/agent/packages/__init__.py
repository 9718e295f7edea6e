"""Install packages in a builder sandbox, and send what was installed to the host (docs/packages.md).

The worker starts `main.py` once for each step, as a process of a session: `hosts` (without a network), `install`
(with the registries of this ecosystem), `report`, `build` (without a network again) and `pack`. A module for each
ecosystem has the steps that differ. Nothing here is trusted by the host: it checks all that is sent.
"""
