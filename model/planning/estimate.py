"""What a training run will take: weights, memory of a process by part, operations, time. Imports no torch."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.config import ModelConfig, Precision
from model.learning.optimizer_config import OptimizerConfig
from model.planning.memory import Adapters, memory_of

PLUMBING = "what is foretold has no influence on what happens"

GPU_UTILIZATION, CPU_UTILIZATION = 0.4, 0.6
"""Of the peak, that training reaches: MPT on 8 × H100 35 to 42 % (llm-foundry's published table, 760 M and 1.3 B
weights); plain PyTorch loops on two CPU cores 52 to 67 % of a large matrix product."""
_KERNELS_OF_A_LAYER, _KERNELS_BESIDE = 75, 60
"""Operations of PyTorch that a layer, and all beside the layers, take for a micro-batch, forward and backward: as
counted, views left out."""
_KERNELS_OF_A_CHOICE, _KERNELS_OF_AN_EXPERT = 50, 15
"""Likewise, where there are experts: of choosing among them, and of each but the first."""
_KERNELS_OF_AN_ADAPTER = 8
"""Likewise, of a layer with an adapter: what this adds to its own."""
_KERNEL_SECONDS = 10e-6
"""What each takes a GPU at least, however small it is: the time to start it from Python. Assumed; it makes the forecast
of tiny networks one of minutes, not of seconds."""


@dataclass(frozen=True)
class Gpu:
    """Dense peaks of a GPU, operations a second, as its maker publishes them."""

    half: float
    """bf16 and fp16, sums in float32."""
    single: float
    """Float32 without tensor cores."""
    memory: float
    """Bytes."""
    eight: float | None = None
    """fp8, sums in float32; None: it has none."""


GPUS = {
    # Sources: NVIDIA's data sheets of the A100 80GB (2021), L4 (2023), H100 SXM (2023), H200 (2024), without
    # sparsity (half of what those of L4, H100 and H200 print); "NVIDIA Ada GPU architecture" (2023), appendix A.
    "RTX 4090": Gpu(165.2e12, 82.6e12, 24e9, 330.3e12),
    "L4": Gpu(121e12, 30.3e12, 24e9, 242.5e12),
    "A100": Gpu(312e12, 19.5e12, 80e9),
    "H100": Gpu(989.5e12, 67e12, 80e9, 1979e12),
    "H200": Gpu(989.5e12, 67e12, 141e9, 1979e12),
}
"""By a word of the name that the driver gives them."""
_SLOWER = ("PCIe", "NVL", "Laptop", "D")
"""Words of the names of variants with other peaks; for the A100 they are those of all."""


def gpu_of(name: str) -> Gpu | None:
    """By the name that the driver gives it; None where its peaks are not known."""
    words = name.replace("-", " ").split()
    found = next((part for part in GPUS if f" {part} " in f" {' '.join(words)} "), None)
    if found is None or (found != "A100" and any(word in words for word in _SLOWER)):
        return None
    return GPUS[found]


@dataclass(frozen=True)
class Estimate:
    """What a training run will take."""

    parameters: int
    """Weights of the network."""
    trained_parameters: int
    """Those that are trained: all, or those of the adapters."""
    active_parameters: int
    """Those that work on a position: all, but for experts that it has not chosen."""
    memory: dict[str, float]
    """Bytes of a process: ``weights``, ``gradients``, ``optimizer``, ``activations``, and ``host`` where
    offloaded, and ``disk`` for files."""
    flops: float
    """Floating-point operations of the whole run; 0 where its tokens are not known."""
    processes: int
    kernels: float
    """Operations of PyTorch that a process starts, one after the other."""
    inside: float = 0.0
    """Share of the operations that are products with the matrices inside the blocks."""
    busy: float = 1.0
    """Share of the time in which a process of a pipeline has a micro-batch to work on."""

    def seconds(self, peak: float, utilization: float) -> float:
        """On all processes together, each (or on a CPU: all of them) with ``peak`` operations a second."""
        return self.flops / (peak * utilization * self.busy)

    def seconds_on_gpus(self, peak: float) -> float:
        """On a GPU for each process, with ``peak`` operations a second each."""
        return max(self.seconds(peak * self.processes, GPU_UTILIZATION), self.kernels * _KERNEL_SECONDS / self.busy)

    def as_json(self, precision: Precision) -> dict[str, Any]:
        """With the time on this machine and on GPUs (one for each process)."""
        found: dict[str, Any] = {"parameters": self.parameters, "active_parameters": self.active_parameters}
        found |= {"trained_parameters": self.trained_parameters, "memory_bytes": self.memory}
        if not self.flops:
            return {**found, "flops": None, "seconds_here": None, "seconds_on": {}}
        found["flops"] = self.flops
        gpu = _present_gpu()
        here = self.seconds(_matrix_product(), CPU_UTILIZATION)
        peak = None if gpu is None else self._peak(gpu, precision)
        if peak is not None:
            here = self.seconds_on_gpus(peak)
        return {**found, "seconds_here": here, "seconds_on": self.seconds_on(precision)}

    def seconds_on(self, precision: Precision) -> dict[str, float]:
        """Time on as many GPUs of each kind as there are processes, where a process fits; by the GPU's name."""
        device_bytes = sum(size for part, size in self.memory.items() if part not in ("host", "disk"))
        peaks = {name: self._peak(gpu, precision) for name, gpu in GPUS.items() if gpu.memory > device_bytes}
        return {name: self.seconds_on_gpus(peak) for name, peak in peaks.items() if peak is not None}

    def _peak(self, gpu: Gpu, precision: Precision) -> float | None:
        """Operations a second, at most; None where the GPU cannot compute so."""
        if precision != "fp8":
            return gpu.single if precision == "fp32" else gpu.half
        return None if gpu.eight is None else 1 / (self.inside / gpu.eight + (1 - self.inside) / gpu.half)


def estimate(
    shape: ModelConfig, vocabulary: int, tokens: int, precision: Precision, optimizer: OptimizerConfig, run: Any,
    batch_tokens: int | None = None, *, context: int | None = None, adapters: Adapters | None = None,
) -> Estimate:  # fmt: skip
    """Of training on ``tokens`` positions (0: not known). ``run``: a step's resources (or ``model.request.Run``).

    Memory is that of the process that needs most. ``batch_tokens``: of a step, by which it is known how long
    the processes of a pipeline wait for each other. ``context``: of a training sequence, if not the network's.
    ``adapters``: trained instead of the network's weights, through which gradients go, but for which there are none.
    """
    parameters, active = shape.parameters(vocabulary), shape.parameters(vocabulary, active=True)
    memory = memory_of(shape, vocabulary, precision, optimizer, run, context, adapters)
    if context is not None:
        shape = shape.model_copy(update={"context": context})
    stages, busy = run.pipeline_processes, 1.0
    if batch_tokens is not None and stages > 1:
        sequences = math.ceil(batch_tokens / shape.context / (run.processes / stages))
        flowing = math.ceil(sequences / run.micro_batch_sequences)
        busy = flowing / (flowing + stages - 1)
    operations, trained = shape.flops_per_token(vocabulary), parameters
    if adapters is not None:  # of six operations for a weight, two are those of its gradient
        trained = round(shape.layers * adapters.weights_of_layer(shape))
        operations += 6.0 * trained - 2.0 * (shape.active_hidden_parameters + vocabulary * shape.width)
    of_layer = _KERNELS_OF_A_LAYER
    if shape.experts is not None:
        of_layer += _KERNELS_OF_A_CHOICE + (shape.experts - 1) * _KERNELS_OF_AN_EXPERT
    if adapters is not None:
        of_layer += _KERNELS_OF_AN_ADAPTER * len(adapters.targets)
    kernels = _passes(shape, tokens, batch_tokens, run) * (_KERNELS_BESIDE + of_layer * shape.layers / stages)
    inside = 6.0 * shape.active_hidden_parameters / operations
    return Estimate(parameters, trained, active, memory, tokens * operations, run.processes, kernels, inside, busy)


def _passes(shape: ModelConfig, tokens: int, batch_tokens: int | None, run: Any) -> int:
    """Micro-batches that a process has in all; without ``batch_tokens``, each step has one of each process."""
    groups: int = run.processes // (run.sequence_processes * run.tensor_processes * run.pipeline_processes)
    batch: int = batch_tokens or run.micro_batch_sequences * groups * shape.context
    of_a_step: int = math.ceil(math.ceil(batch / shape.context / groups) / run.micro_batch_sequences)
    return math.ceil(tokens / batch) * of_a_step


def _present_gpu() -> Gpu | None:
    """This machine's, if it is a known one."""
    name = _gpu_name()
    return None if name is None else gpu_of(name)


def _gpu_name() -> str | None:
    """As NVIDIA's driver says it; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else None


def _matrix_product() -> float:
    """Operations a second in a float32 matrix product on all processors."""
    import numpy as np

    size = 1024
    a = np.ones((size, size), np.float32)
    best = math.inf
    for _ in range(3):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def said(found: Mapping[str, Any]) -> str:
    """``Estimate.as_json`` in a line for a person."""
    parts = {part: size for part, size in found["memory_bytes"].items() if part not in ("host", "disk")}
    listed = ", ".join(f"{part} {amount(size)}B" for part, size in parts.items())
    host = found["memory_bytes"].get("host")
    beside = f", and {amount(host)}B of the host's" if host else ""
    on = ", ".join(f"{duration(seconds)} on {name}" for name, seconds in found["seconds_on"].items())
    active, trained = found["active_parameters"], found["trained_parameters"]
    chosen = f" ({amount(active)} for each token)" if active < found["parameters"] else ""
    adapted = f", {amount(trained)} of adapters trained" if trained != found["parameters"] else ""
    needs = (
        f"{amount(found['parameters'])} weights{chosen}{adapted}; "
        f"a process needs {amount(sum(parts.values()))}B ({listed}){beside}; "
    )
    if found["flops"] is None:
        return f"{needs}{found['unknown']}"
    return f"{needs}{found['flops']:.2g} operations: about {duration(found['seconds_here'])} here" + (
        f", {on}" if on else ""
    )


def amount(value: float) -> str:
    """To three digits, with a prefix of 1000: ``1.23 M``."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} P"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.1 h``, ``4 days``."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} s"
