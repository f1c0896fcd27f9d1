"""``separator.py --restore``: separated stems go on through Apollo, and are written a second time as it leaves them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from inference import naming, restoration
from inference.naming import Selection
from inference.planning import Plan
from runtime import console
from runtime.errors import UserError

if TYPE_CHECKING:
    from inference.separator import Separator


def wish(options: Namespace, selection: Selection) -> Selection:
    """The selection with what the command line wants restored.

    Raises:
        UserError: ``--restore-model`` alone, or what `inference.naming.restoring` refuses
    """
    if options.restore is None:
        if options.restore_model:
            raise UserError("--restore-model goes with --restore: add that", status=2)
        return selection
    return naming.restoring(selection, [name.strip() for name in options.restore.split(",")])


def plan(model: str | None) -> Plan:
    """See `inference.restoration.plan`."""
    try:
        return restoration.plan(model)
    except UserError as error:
        raise UserError(f"--restore: {error} (--restore-model)") from error


def restorer(plan: Plan, stems: Sequence[str], separator: Separator) -> Separator:
    """What restores these stems of a separator, on its device; says what it is made of."""
    from inference.separator import Separator

    made = Separator(plan, device=separator.device)
    console.log(f"restoration: {made.name}, {made.weights_path} ({made.weights_hash}), of {', '.join(stems)}")
    if made.sample_rate < separator.sample_rate:
        rates = f"{made.sample_rate} Hz, the separation at {separator.sample_rate}"
        console.warn(f"{made.name} works at {rates}: restored stems hold nothing above {made.sample_rate // 2} Hz")
    return made


def links(
    selection: Selection, restore: Mapping[str, Separator] | None
) -> tuple[Selection, list[tuple[tuple[int, ...], Separator]]]:
    """The selection with the keys of ``restore`` restored, and what `inference.separator.Separator.run` does for it."""
    restore = restore or {}
    selection = naming.restoring(selection, restore)
    rows = [selection.rows[name] for name in selection.restored]
    return selection, list(zip(rows, restore.values(), strict=True))
