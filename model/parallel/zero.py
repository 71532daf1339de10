"""DeepSpeed's own settings: ZeRO's stage, offload and buckets. All else is the engine's, and switched off there."""

from __future__ import annotations

from typing import Any

REDUCE_BUCKET = 200_000_000
"""Most gradients (elements) that are reduced at a time; DeepSpeed allocates this much."""
CPU_BUCKET = 100_000
"""The same on a CPU, for ZeRO 1 and 2: a larger gradient is reduced where it lies, which saves a copy of it."""
HOST_GROUP = 100_000_000
"""Weights that ZeRO 3 updates at a time where they lie on the host or on a disk."""


def deepspeed_settings(
    zero_stage: int, offload: str, clip_norm: float, weights: int, *, on_gpus: bool
) -> dict[str, Any]:
    """What ``deepspeed.initialize`` is given for a network of so many trainable ``weights`` in a process.

    Accumulation and precision are the engine's, so they are switched off here.
    """
    bucket = max(min(REDUCE_BUCKET, weights), 1_000)
    in_place = zero_stage in (1, 2) and not on_gpus
    groups = {"sub_group_size": HOST_GROUP} if offload != "none" else {}
    return {
        "train_micro_batch_size_per_gpu": 1,  # only counted, never used
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm if zero_stage > 0 else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": zero_stage,
            "overlap_comm": on_gpus and zero_stage > 1,
            "reduce_bucket_size": min(bucket, CPU_BUCKET) if in_place else bucket,
            "allgather_bucket_size": bucket,
            "stage3_prefetch_bucket_size": bucket,
            # Pinning memory would have to be compiled on a CPU, and is of no use there. What lies on a disk is the
            # host's memory to DeepSpeed (see ``model.learning.on_disk``).
            "offload_optimizer": {"device": "none" if offload == "none" else "cpu", "pin_memory": on_gpus},
            **groups,
        },
        "zero_force_ds_cpu_optimizer": False,  # PyTorch's fused Adam is as fast on the CPU, and ready compiled
        "steps_per_print": None,
    }
