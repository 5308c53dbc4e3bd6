"""Random numbers as a pure function of (seed, purpose, position): what makes resume exact and two ranks equal one."""

import hashlib

import torch


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``stream_seed(0, "latents", 17)``; the same on every machine and rank."""
    text = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_everything(seed: int) -> None:
    """Seeds torch's streams of the devices in use; torch.manual_seed asks for all kinds: half a millisecond."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU stream for one purpose, independent of torch's global one."""
    return torch.Generator().manual_seed(stream_seed(seed, *purpose))
