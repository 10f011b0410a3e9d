"""Which files of checkpoints go, and which stay: a pure function.

Nobody knows who else is writing a checkpoint. So what has no manifest stays until it is surely a leftover: by its age or, on file
systems that tell no age, by being older than all checkpoints that are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sparkps.checkpoints.files import FileInfo
from sparkps.checkpoints.manifest import Manifest, folder_id, folder_of, id_of, id_order


def what_goes(
    entries: Sequence[FileInfo],
    whole: Sequence[Manifest],
    torn: Collection[str],
    *,
    keep: int,
    before: float,
    owner: str | None = None,
) -> list[str]:
    """Names of the files to remove, in this order.

    Parameters
    ----------
    entries : sequence of FileInfo
        All files there are.
    whole : sequence of Manifest
        Sound checkpoints, newest first.
    torn : collection of str
        Ids of damaged ones.
    keep : int
        How many of the sound ones stay, of those that can go; and one more where it takes that for two that share no file.
    before : float
        What is a leftover goes if it is older than this: seconds since 1970.
    owner : str, optional
        Only checkpoints whose `Owner` has this name can go; None: all.

    Returns
    -------
    list of str
        Manifests come first: what they name must not go while they are there.
    """
    mine = [manifest for manifest in whole if owner is None or (manifest.owner is not None and manifest.owner.name == owner)]
    stay = mine[:keep] + _apart(mine, keep)
    old = {manifest.id for manifest in mine} - {manifest.id for manifest in stay}
    kept = [manifest for manifest in whole if manifest.id not in old]
    # Those of others may be of any age.
    oldest = min((id_order(manifest.id) for manifest in stay), default=(0, ""))

    def is_stale(entry: FileInfo, checkpoint: str) -> bool:
        return entry.changed < before if entry.changed else id_order(checkpoint) < oldest

    if len(mine) >= keep:  # with fewer, somebody may want to look at the damaged ones
        manifests = [(entry, checkpoint) for entry in entries if (checkpoint := id_of(entry.name)) in torn]
        old |= {checkpoint for entry, checkpoint in manifests if checkpoint and is_stale(entry, checkpoint)}
    gone = [entry.name for entry in entries if id_of(entry.name) in old]
    needed = {file.name for manifest in kept for file in manifest.files}
    rested_on = {file.name for manifest in mine if manifest.id in old for file in manifest.files}
    alive = {folder_of(checkpoint) for checkpoint in {manifest.id for manifest in kept} | set(torn)} - {folder_of(each) for each in old}
    for entry in entries:
        checkpoint = folder_id(entry.name)
        if checkpoint is None or entry.name in needed or folder_of(checkpoint) in alive:
            continue
        if entry.name in rested_on or checkpoint in old or is_stale(entry, checkpoint):
            gone.append(entry.name)
    return gone


def _apart(mine: Sequence[Manifest], keep: int) -> list[Manifest]:
    """Where all that are kept rest on files of the newest: the last one before that does not, if there is one.

    What happens to a file does not happen to all checkpoints then.
    """
    newest = {file.name for manifest in mine[:1] for file in manifest.files}
    for place, manifest in enumerate(mine[1:] if keep > 1 else (), start=1):
        if newest.isdisjoint(file.name for file in manifest.files):
            return [manifest] if place >= keep else []
    return []


__all__ = ["what_goes"]
