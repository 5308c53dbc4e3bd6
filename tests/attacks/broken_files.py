"""Files that are broken in a hundred ways, the same for every seed: images, sounds and texts by name."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.io import wavfile

SIDE = 24
IMAGES = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}
HUGE = (0, 1, 50_000, 2**31 - 1, 2**32 - 1)  # sides that a head claims


def pixels(stream: random.Random, side: int = SIDE) -> Image.Image:
    """Half noise, half flat: that codecs have something to do."""
    picture = np.frombuffer(stream.randbytes(side * side * 3), np.uint8).reshape(side, side, 3).copy()
    picture[side // 2 :] = 90
    return Image.fromarray(picture)


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def damaged(content: bytes, stream: random.Random, times: int = 3) -> Iterator[tuple[str, bytes]]:
    """What disks, networks and editors make of a file."""
    for number in range(times):
        yield f"cut{number}", content[: stream.randrange(1, len(content))]
        flipped = bytearray(content)
        for _ in range(4**number):
            flipped[stream.randrange(len(content))] ^= 1 << stream.randrange(8)
        yield f"flipped{number}", bytes(flipped)
        head = bytearray(content)
        head[stream.randrange(min(64, len(content)))] = stream.randrange(256)
        yield f"head{number}", bytes(head)
        start = stream.randrange(len(content))
        end = min(len(content), start + stream.randrange(1, 64))
        yield f"zeros{number}", content[:start] + bytes(end - start) + content[end:]
        yield f"doubled{number}", content[:start] + content[start // 2 :]
    yield "magic", b"MZ\x90\0" + content[4:]
    yield "empty", b""
    yield "noise", stream.randbytes(len(content))
    yield "nothing", bytes(len(content))


def chunk(kind: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = bytes(99), more: bytes = b"") -> bytes:
    """A PNG whose head says so much, right to the checksum."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def bomb(side: int = 20_000) -> bytes:
    """A PNG of side × side black pixels: grey of one bit, in some fifty kilobytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    rows = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def images(seed: int = 0) -> dict[str, bytes]:
    """Images by name: damaged, or of a kind that nobody expects."""
    stream, found = random.Random(seed), {}
    for suffix, kind in IMAGES.items():
        whole = encoded(pixels(stream), kind)
        found |= {f"{how}.{suffix}": content for how, content in damaged(whole, stream)}
    whole = encoded(pixels(stream), "JPEG")
    frame = whole.index(b"\xff\xc0") + 5
    for side in HUGE:
        found[f"says{side}.png"] = png(side, side)
        found[f"wide{side}.png"] = png(side, 1)
        found[f"says{side % 2**16}.jpg"] = whole[:frame] + struct.pack(">HH", *[side % 2**16] * 2) + whole[frame + 4 :]
        flat = encoded(pixels(stream), "BMP")
        for sign in (1, -1):
            size = struct.pack("<ii", *[max(-(2**31), min(2**31 - 1, sign * side))] * 2)
            found[f"says{sign * side}.bmp"] = flat[:18] + size + flat[26:]
    for depth in (0, 1, 3, 16, 255):
        found |= {f"depth{depth}colour{colour}.png": png(8, 8, depth, colour) for colour in (0, 1, 2, 3, 6)}
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**24), 9))
    found["textbomb.png"] = png(8, 8, rows=bytes(8 * 25), more=text)
    found["profile.png"] = png(8, 8, rows=bytes(8 * 25), more=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**24), 9)))
    found["cmyk.jpg"] = encoded(pixels(stream).convert("CMYK"), "JPEG")
    found["lab.tif"] = encoded(Image.new("LAB", (8, 8)), "TIFF")
    found["float.tif"] = encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
    found["integers.tif"] = encoded(Image.fromarray(np.full((8, 8), -5, np.int32)), "TIFF")
    frames = [pixels(stream) for _ in range(3)]
    for suffix, kind in (("webp", "WEBP"), ("png", "PNG"), ("tif", "TIFF")):
        found[f"animated.{suffix}"] = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    found["gif.png"] = encoded(pixels(stream), "GIF")
    found["script.png"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run showpage\n"
    found["drawing.jpg"] = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    found["one.png"] = encoded(Image.new("L", (1, 1)), "PNG")
    found["line.png"] = encoded(Image.new("L", (30_000, 1)), "PNG")
    return found


def wav(
    data: bytes = bytes(800),
    code: int = 1,
    channels: int = 1,
    rate: int = 8000,
    bits: int = 16,
    *,
    claimed: int | None = None,
    whole: int | None = None,
    block: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """A wav file whose head may say what is not so; claimed: bytes of samples, whole: of the file."""
    block = channels * bits // 8 % 2**16 if block is None else block
    head = struct.pack("<HHIIHH", code, channels, rate, rate * block % 2**32, block, bits) + extra
    body = b"fmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data) if claimed is None else claimed) + data
    return b"RIFF" + struct.pack("<I", 4 + len(body) if whole is None else whole) + b"WAVE" + body


def sounds(seed: int = 0) -> dict[str, bytes]:
    """Sound files by name, damaged or with heads that lie."""
    stream, found = random.Random(seed), {}
    tone = np.rint(9000 * np.sin(np.arange(1600) / 3)).astype(np.int16)
    for number, samples in enumerate((tone, np.stack([tone, tone], 1), tone.astype(np.float32) / 2**15)):
        file = io.BytesIO()
        wavfile.write(file, 8000, samples)
        found |= {f"{how}{number}.wav": content for how, content in damaged(file.getvalue(), stream)}
    for code in (0, 2, 3, 6, 7, 0x55, 0xFFFE, 0xFFFF):
        found |= {f"code{code}bits{bits}.wav": wav(code=code, bits=bits) for bits in (8, 16, 32)}
    for bits in (0, 1, 7, 12, 24, 48, 64, 65535):
        found[f"bits{bits}.wav"] = wav(bits=bits, block=2)
    for channels in (0, 3, 65535):
        found[f"channels{channels}.wav"] = wav(channels=channels)
        found[f"block{channels}.wav"] = wav(block=channels)
    for size in (0, 1, 2**31, 2**32 - 2, 2**32 - 1):
        found |= {f"claims{size}.wav": wav(claimed=size), f"whole{size}.wav": wav(whole=size)}
        found[f"bytes{size}.wav"] = wav(claimed=size, bits=24, block=3)
    for rate in (0, 1, 2**31, 2**32 - 1):
        found[f"rate{rate}.wav"] = wav(rate=rate)
    found["extensible.wav"] = wav(code=0xFFFE, extra=struct.pack("<HHI16s", 22, 16, 0, bytes(16)))
    found["infinite.wav"] = wav(np.full(200, np.inf, np.float32).tobytes(), code=3, bits=32)
    found["big.wav"] = b"RIFX" + wav()[4:]
    found["rf64.wav"] = b"RF64" + b"\xff" * 4 + b"WAVEds64" + struct.pack("<I", 28) + b"\xff" * 28 + wav()[12:]
    found["chunks.wav"] = wav()[:12] + b"LIST\xff\xff\xff\xff" * 50 + wav()[12:]
    found["nodata.wav"] = wav()[:36]
    return found


def texts(seed: int = 0) -> dict[str, bytes]:
    """Texts by name."""
    stream = random.Random(seed)
    line = b"a man rides a horse on the beach\n"
    found = {f"{how}.txt": content for how, content in damaged(line * 40, stream)}
    return found | {
        "zeros.txt": line + b"\0" * 50 + b"\n" + line,
        "mark.txt": b"\xef\xbb\xbf" + line * 3,
        "mark_alone.txt": b"\xef\xbb\xbf",
        "utf16.txt": (line * 3).decode().encode("utf-16"),
        "utf32.txt": (line * 3).decode().encode("utf-32"),
        "latin.txt": line + "café\n".encode("latin-1"),
        "surrogates.txt": line + b"\xed\xa0\x80\n",
        "overlong.txt": line + b"\xc0\xaf\n",
        "blank.txt": b"\n \n\t\n" * 9,
        "returns.txt": line.replace(b"\n", b"\r") * 9,
        "separators.txt": "a\u2028b\x85c\x0bd\n".encode() * 9,
        "one_word.txt": b"a",
        "words.txt": b"word " * 30_000,
        "endless.txt": b"x" * 10**6,
        "different.txt": b"".join(b"%d\n" % number for number in range(3000)),
        "right_to_left.txt": "\u202e\u2066אבג\ufeff\n".encode() * 9,
        "escapes.txt": b"\x1b[2J\x1b]0;x\x07 a b\n" * 9,
    }
