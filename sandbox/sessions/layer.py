"""Hold the layer of the packages of a session that is being created."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from protocol.packages import PackagesFailed
from sandbox.refusals import NO_PACKAGES, many_packages, packages_refusal
from sandbox.run.package_layers import TooManyWait, await_layer_for
from sandbox.run.plan import check_packages, place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.result import Refusal
    from protocol.session import SessionSpec
    from sandbox.languages import Language
    from sandbox.run.package_layers import LayerSupply, ReadyLayer


def hold_layer(
    supply: LayerSupply | None,
    spec: SessionSpec,
    language: Language,
    resources: ExitStack,
    on_output: Callable[[str], None],
    is_wanted: Callable[[], bool],
) -> ReadyLayer | Refusal | None:
    """Hold the layer of a session's packages until `resources` are closed; None if it is not wanted any more.

    `on_output` is called with the tool's lines, and `is_wanted` asked at least every second.
    """
    packages, places = check_packages(language.id, spec.packages)
    if supply is None:
        return packages_refusal(PackagesFailed("package_not_allowed", NO_PACKAGES))
    try:
        supply.enter(spec.key)
    except TooManyWait as e:
        return many_packages(e)
    try:
        layer = resources.enter_context(supply.at_hand(key=spec.key, language=language.id, packages=packages))
        if layer is not None:
            return layer
        waiting = supply.wait(key=spec.key, language=language.id, packages=packages)
        resources.enter_context(closing(waiting))
        return await_layer_for(waiting, on_output, is_wanted)
    except PackagesFailed as e:
        return packages_refusal(PackagesFailed(e.code, e.message, place_of(places, e.index)))
    finally:
        supply.leave(spec.key)
