"""The processes of a run as one group, each with its device."""

from __future__ import annotations

import os
import sys
import warnings

import torch

from storage.errors import UserError


def join_process_group(device: str) -> torch.device:
    """Join the processes that torchrun started; returns this one's device."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # DeepSpeed calls what torch is about to rename
    sys.modules.setdefault("mlflow", None)  # type: ignore[arg-type]  # DeepSpeed imports it where it finds it: 2 s
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    if on_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    elif not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use; say device: cpu")
    import deepspeed

    # Its shared-memory all-reduce serves inference alone, and would have to be compiled.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if on_cpu:
        deepspeed.init_distributed("gloo")
        return torch.device("cpu")
    here, number = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if number >= here:
        raise UserError(f"processes: more of them here than GPUs ({here}): lower resources processes, or device: cpu")
    device_of_rank = torch.device("cuda", number)
    torch.cuda.set_device(device_of_rank)
    deepspeed.init_distributed("nccl")
    return device_of_rank
