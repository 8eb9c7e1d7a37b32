"""The machines: the one that was measured, and GPUs after their data sheets times an assumed efficiency.

Nothing about a GPU was measured here. A data sheet says what a device could do at best; `Efficiency` says how much
of that is taken for granted, with a low and a high value, and every page and line of output that follows from it
says so. Sources of the figures: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200 SXM (dense bf16, without
sparsity), NVLink in one direction, one network card a GPU (HDR 200 or NDR 400 Gbit/s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scripts.scale_costs import Rates, fit, link_costs

MEASURED, ASSUMED = "measured", "data sheet x assumed efficiency"
_ELEMENT_BYTES = 6  # an element is written and read by a few kernels, in bf16 or fp32
_UPDATE_BYTES = 28  # weight, gradient and two moments in fp32 are read, three of them written
_NODE_WRITE, _NODE_READ = 2e9, 5e9  # of a node's disk, bytes a second: assumed
_SCORE_BYTES = {"cpu": 96 << 20, "cuda": 1 << 30}


@dataclass(frozen=True)
class Efficiency:
    """How much of a data sheet's figure is reached. All of it is assumed.

    Attributes:
        products: Of the peak, in the layers' matrix products and attention.
        head: Of the peak, in the head's products with their softmax.
        memory: Of the memory's bandwidth.
        links: Of NVLink and of the network.
        overlap: Of the time in which data could travel while something is computed.
        call: Seconds to start the kernels of a layer's forward pass.
    """

    products: float
    head: float
    memory: float
    links: float
    overlap: float
    call: float


# The middle was chosen with sight of two public figures, see `scale_page.public_check`; the others are guesses.
EFFICIENCIES = {
    "low": Efficiency(0.27, 0.20, 0.5, 0.5, 0.5, 250e-6),
    "middle": Efficiency(0.40, 0.28, 0.7, 0.7, 0.7, 150e-6),
    "high": Efficiency(0.55, 0.45, 0.85, 0.85, 0.9, 75e-6),
}


@dataclass(frozen=True)
class Device:
    """What a rank computes on.

    Attributes:
        name: Short.
        basis: `MEASURED`, or `ASSUMED`.
        rates: Seconds of a unit of work.
        memory: Bytes.
        per_node: Devices of a node.
        link: Bytes a second that a device sends to another one in its node.
        network: Bytes a second that a device sends out of its node.
        latency: Seconds of a message.
        overlap: See `Efficiency`.
        bf16: Whether matrix products are in bf16.
        asynchronous: Whether kernels are started while others run.
        keeps_trunk: Whether outputs of frozen layers are kept on disk; else they are computed again in each epoch.
        libraries: Bytes that are taken before anything is done.
        score_bytes: Of the head's scores that exist at a time.
    """

    name: str
    basis: str
    rates: Rates
    memory: float
    per_node: int
    link: float
    network: float
    latency: float
    overlap: float
    bf16: bool
    asynchronous: bool
    keeps_trunk: bool
    libraries: float
    score_bytes: float

    def ring(self, size: float, ranks: int, messages: int) -> float:
        """Return the seconds in which `size` bytes in all are gathered, or reduced and scattered, in a ring.

        An all-reduce is both. Within a node the ring runs over its links. Beyond, as many rings run at once as a
        node has network cards, so a device's share is the slower of its link and of all cards together.
        """
        if ranks == 1:
            return 0.0
        rate = self.link if ranks <= self.per_node else min(self.link, self.per_node * self.network)
        return size * (ranks - 1) / ranks / rate + messages * self.latency * math.log2(ranks)

    def across(self, size: float, copies: int) -> float:
        """Return the seconds of the same among devices of as many nodes, each through a card of its own."""
        if copies == 1:
            return 0.0
        return size * (copies - 1) / copies / self.network + self.latency * math.log2(copies)


@dataclass(frozen=True)
class Host:
    """What one process on a node's processor and disk does, for a pair or a byte.

    Attributes:
        read_pair: Seconds to read a pair's row.
        token: Seconds to tokenise a token of a pair.
        opening: Seconds a pair to open a store that knows it: its key, its shard, its sum.
        key_bytes: In memory, of a pair's key.
        read: Bytes a second from disk.
        write: Bytes a second to disk.
        hashed: Bytes a second, SHA-256.
    """

    read_pair: float
    token: float
    opening: float
    key_bytes: float
    read: float
    write: float
    hashed: float

    def tokenising(self, tokens: float) -> float:
        """Return the seconds to read and tokenise a pair of so many tokens."""
        return self.read_pair + self.token * tokens


def measured_device(found: dict[str, Any], dtype: str) -> Device:
    """Return this machine: its two cores are one device, and a second process would be a second such machine."""
    start, rate = link_costs(found)
    return Device(
        name=f"cpu-{dtype}",
        basis=MEASURED,
        rates=fit(found, dtype),
        memory=24e9,
        per_node=1,
        link=rate,
        network=rate,
        latency=start,
        overlap=0.0,
        bf16=False,  # rounded on the way into a product: what is kept is fp32
        asynchronous=False,
        keeps_trunk=True,
        libraries=500e6,
        score_bytes=_SCORE_BYTES["cpu"],
    )


# peak FLOP/s (bf16, dense), bytes, bytes/s of memory, of NVLink in one direction, of one network card
_SHEETS: dict[str, tuple[float, float, float, float, float]] = {
    "a100": (312e12, 80e9, 2.04e12, 300e9, 25e9),
    "h100": (989e12, 80e9, 3.35e12, 450e9, 50e9),
    "h200": (989e12, 141e9, 4.8e12, 450e9, 50e9),
}
GPUS = tuple(_SHEETS)


def gpu(name: str, level: str = "middle") -> Device:
    """Return a GPU after its data sheet.

    Args:
        name: One of `GPUS`.
        level: One of `EFFICIENCIES`.
    """
    peak, memory, bandwidth, link, network = _SHEETS[name]
    assumed = EFFICIENCIES[level]
    rates = Rates(
        layer_operation=1 / (assumed.products * peak),
        head_operation=1 / (assumed.head * peak),
        element=_ELEMENT_BYTES / (assumed.memory * bandwidth),
        call=assumed.call,
        update=_UPDATE_BYTES / (assumed.memory * bandwidth),
    )
    return Device(
        name=name,
        basis=ASSUMED,
        rates=rates,
        memory=memory,
        per_node=8,
        link=assumed.links * link,
        network=assumed.links * network,
        latency=10e-6,
        overlap=assumed.overlap,
        bf16=True,
        asynchronous=True,
        keeps_trunk=False,
        libraries=3e9,
        score_bytes=_SCORE_BYTES["cuda"],
    )


def measured_host(found: dict[str, Any], *, gpu_node: bool) -> Host:
    """Return the processor that was measured, with its own disk or with one that a GPU node is taken to have."""
    machine = found["machine"]
    write, read = machine["write_bytes_per_second"], machine["read_bytes_per_second"]
    return Host(
        read_pair=machine["reading_seconds_per_pair"],
        token=machine["tokenising_seconds_per_pair"] / machine["tokenising_tokens_per_pair"],
        opening=machine["key_seconds_per_pair"] + machine["store_seconds_per_pair"],
        key_bytes=machine["key_bytes_in_memory_per_pair"],
        read=_NODE_READ if gpu_node else read,
        write=_NODE_WRITE if gpu_node else write,
        hashed=machine["sha256_bytes_per_second"],
    )
