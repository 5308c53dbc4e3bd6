"""Sound files (RIFF/WAVE, as scipy reads them): listed, read at any sample rate, and written with 16 bits."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from math import gcd
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly

from gan_lightning.data.listing import walk
from gan_lightning.errors import UserError

SUFFIX = ".wav"
RATES = (1_000, 768_000)  # Hz: beyond these a file's head is wrong, and resampling without bounds
Labels = Literal["names", "folders", "none"]  # where the class of a sound is said
MOST_BYTES = 2**30  # of one file, which is read at once


def check_rate(rate: int) -> None:
    """Raises ValueError for samples a second that no sound has, such as 16 where 16,000 are meant."""
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"rate={rate}: must be {RATES[0]:,} to {RATES[1]:,} samples a second")


def is_sound(path: PurePath) -> bool:
    return path.suffix.lower() == SUFFIX


def sound_names(root: Path, key: str = "data.root") -> list[str]:
    """The visible sound files below a folder, sorted, with / between folders.

    Raises UserError, with the key that names the folder, where it is none, cannot be listed or holds no sounds.
    """
    if not os.path.isdir(root):
        raise UserError(f"{key}={root}: {'not a folder' if os.path.exists(root) else 'no such folder'}")
    try:
        files = list(walk(root))
    except OSError as error:
        raise UserError(f"{key}={root}: cannot list {error.filename}: {error.strerror}") from error
    names = sorted(path.relative_to(root).as_posix() for path in files if is_sound(path))
    if not names:
        others = Counter(path.suffix.lower() or "no suffix" for path in files)
        found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)) or "nothing"
        raise UserError(f"{key}={root}: no sounds in it; looked for {SUFFIX}, found {found}")
    return names


def sound_labels(names: Sequence[str], labels: Labels, part: int, separator: str) -> list[str]:
    """What each of the files says its class is: a part of its name, or its first folder; none for labels=none.

    Raises UserError for a name without such a part or without the separator, and for a file beside the folders.
    """
    if labels == "none":
        return []
    if labels == "folders":
        for name in names:
            if "/" not in name:
                raise UserError(f"data.labels=folders: {name} lies in no folder; use names or none")
        return [name.partition("/")[0] for name in names]
    found = []
    for name in names:
        parts = Path(name).stem.split(separator)
        if len(parts) == 1:  # the whole name would be a class of its own
            raise UserError(
                f'data.labels=names: {name} has no "{separator}" (data.separator) that would end its class; '
                "use folders or none"
            )
        if not -len(parts) <= part < len(parts):
            raise UserError(f'data.part={part}: {name} has {len(parts)} part(s) between "{separator}"')
        found.append(parts[part])
    return found


def sound_classes(root: Path, labels: Labels, part: int, separator: str) -> list[str]:
    """The classes of the sounds below a folder, sorted; none where all are of one. Raises UserError as `load` does."""
    classes = sorted(set(sound_labels(sound_names(root), labels, part, separator)))
    return classes if len(classes) > 1 else []


def read_wav(path: Path, rate: int) -> NDArray[np.float32]:
    """The samples of a file at `rate` Hz, (n,) in [-1, 1]: PCM of 8 to 64 bits or floats; channels become their mean.

    Raises UserError that names the file where it cannot be read, breaks off, is empty, too long or of no known rate.
    """
    try:
        size = os.path.getsize(path)
        if size > MOST_BYTES:
            raise UserError(f"{path}: {size / 2**30:.1f} GiB: more than {MOST_BYTES // 2**30} is not read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that are of no use here
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            found, data = wavfile.read(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except wavfile.WavFileWarning:
        raise UserError(f"{path}: breaks off before the end that its head gives") from None
    except UserError:
        raise
    except Exception as error:  # a damaged head makes SciPy raise almost anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}: not a wav file that can be read: {reason[:120]}") from None
    if not RATES[0] <= found <= RATES[1]:
        raise UserError(f"{path}: says that it has {found:,} samples a second: {RATES[0]:,} to {RATES[1]:,} are read")
    if not data.size:
        raise UserError(f"{path}: holds no samples")
    samples = as_floats(data)
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: holds samples that are not finite")
    if samples.ndim == 2:
        samples = samples.mean(1)
    if len(samples) * rate // found > MOST_BYTES:
        raise UserError(f"{path}: {len(samples) / found:,.0f} seconds are too long for {rate:,} samples a second")
    if found != rate:
        common = gcd(found, rate)
        samples = resample_poly(samples, rate // common, found // common)
    return np.clip(samples, -1, 1).astype(np.float32)


def as_floats(data: NDArray[np.generic]) -> NDArray[np.float64]:
    """Samples as a file keeps them -> numbers in [-1, 1]; of 8 bits the middle is 128, floats stay as they are."""
    if data.dtype == np.uint8:
        return (data.astype(np.float64) - 128) / 128
    if np.issubdtype(data.dtype, np.integer):
        return data.astype(np.float64) / 2.0 ** (8 * data.dtype.itemsize - 1)
    return data.astype(np.float64)


def to_int16(samples: NDArray[np.floating]) -> NDArray[np.int16]:
    """Samples in [-1, 1] -> 16 bits: 1 is 32,767."""
    return np.clip(np.rint(samples * 32767.0), -32767, 32767).astype(np.int16)


def write_wav(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    """Samples (n,) as a mono file of 16 bits."""
    wavfile.write(path, rate, samples)
