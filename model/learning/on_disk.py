"""What ZeRO optimises, in files on a disk: this process's float32 weights and moments, mapped into its memory.

The system reads a file's pages when they are touched, and takes them back first when memory is short, so they cost
what is worked on at a time. The files have no names: however a process ends, nothing of them is left.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.layout import Layout
from model.learning.optimizer import Optimizer
from storage.errors import UserError

PLUMBING = "the same numbers, in another place"


class Disk:
    """Tensors in files under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: list[mmap.mmap] = []

    def zeros(self, like: Tensor) -> Tensor:
        """A tensor in a file of its own, of the shape and type of ``like`` (on the CPU), 0 everywhere.

        Raises UserError where the folder cannot be written to, or its disk has too little room.
        """
        size = like.numel() * like.element_size()
        if size == 0:
            return torch.zeros_like(like)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is noticed here, not by a signal later
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise UserError(
                f"resources offload_folder: {self._folder}: {size:,} bytes: {error.strerror}; "
                "name a folder on a disk that has room for weights and moments"
            ) from error
        self._maps.append(mapped)
        return torch.frombuffer(mapped, dtype=like.dtype).view(like.shape)

    def let_go(self, *_: Any) -> None:
        """Give back the memory of what was touched; what was written is in the files."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)


@torch.no_grad()
def move(layout: Layout, optimizer: Optimizer, disk: Disk) -> None:
    """Let the tensors that ``optimizer`` updates, and its moments, lie on the disk from now on.

    ZeRO must have them on the host (``offload_optimizer``), and no step must have been made.
    """
    for flat in layout.flat_tensors():
        placed = disk.zeros(flat)
        placed.copy_(flat)
        flat.data = placed
        moments = {kind: disk.zeros(flat) for kind in optimizer.moments}
        optimizer.state[flat] = {"step": torch.tensor(0.0), **moments}
    layout.moved()
    optimizer.register_step_post_hook(disk.let_go)
    disk.let_go()
