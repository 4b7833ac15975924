"""A photograph denoised by 2-D neighborhood attention: non-local means, written as attention.

Each pixel becomes the mean of the pixels around it, weighted by how much their surroundings look alike. So q and k are
the patches around the pixels and v the pixels; a score function turns the dot product of two patches into what they
differ by, and takes off what noise alone makes them differ. The image is attended to as it lies in memory: (1, height,
width, 1, channels), without a copy. Source: Buades, Coll and Morel, "A non-local algorithm for image denoising", 2005.

    python examples/denoise_photo.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import skimage
import torch
from rich.console import Console
from skimage.io import imsave

import attngen
from attngen import mechanisms

PICTURES = Path(__file__).parent.parent / "build" / "pictures"
NOISE = 0.1
"""Standard deviation of the noise, where black is 0 and white 1."""
BANDWIDTH = 0.65 * NOISE
"""Patches that differ by so much, beyond what noise explains, weigh 1 / e."""
PATCH = 5
WINDOW = 21


def photo() -> torch.Tensor:
    """A photograph that scikit-image brings along, (height, width, 3)."""
    return torch.from_numpy(skimage.data.astronaut()).float() / 255


def patches(image: torch.Tensor) -> torch.Tensor:
    """(height, width, 3 * PATCH ** 2): what surrounds each pixel, so that the squared distance of two patches is their
    mean squared difference."""
    edge = PATCH // 2
    padded = torch.nn.functional.pad(image.movedim(-1, 0)[None], (edge,) * 4, mode="reflect")[0]
    found = padded.unfold(1, PATCH, 1).unfold(2, PATCH, 1).movedim(0, 2).flatten(2)
    return found / found.shape[-1] ** 0.5


def denoiser(dims: tuple[int, ...], window: tuple[int, ...], sizes: torch.Tensor) -> attngen.Kernel:
    """The kernel for images or clips of these dimensions; `sizes` (B, pixels): squared lengths of patches."""
    explained = 2 * NOISE**2

    def alike(score, b, q, kv):
        difference = sizes[b, q] + sizes[b, kv] - 2 * score
        return -torch.relu(difference - explained) / BANDWIDTH**2

    spec = mechanisms.neighborhood(dims, window, score=alike, scale=1.0)
    return attngen.compile(spec, layout="bnhd")


def denoise(images: torch.Tensor, *window: int) -> torch.Tensor:
    """Denoises images (B, height, width, 3), each apart, or clips (B, frames, height, width, 3)."""
    dims = tuple(images.shape[1:-1])
    frames = images.reshape(-1, *images.shape[-3:])
    found = torch.stack([patches(frame) for frame in frames]).view(*images.shape[:-1], -1)
    sizes = found.square().sum(-1).flatten(1)
    q, v = found.unsqueeze(-2), images.unsqueeze(-2)
    return denoiser(dims, window, sizes)(q, q, v).squeeze(-2)


def noisy(clean: torch.Tensor) -> torch.Tensor:
    """The picture with Gaussian noise on every channel."""
    return clean + NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


def psnr(found: torch.Tensor, clean: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB."""
    return -10 * (found.clamp(0, 1) - clean).square().mean().log10().item()


def save(name: str, image: torch.Tensor) -> Path:
    """Writes a PNG."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = Path(os.path.relpath(PICTURES / f"{name}.png"))
    imsave(path, (image.clamp(0, 1) * 255).round().byte().numpy(), check_contrast=False)
    return path


def main(console: Console, clean: torch.Tensor, window: int = WINDOW) -> tuple[float, float]:
    """Denoise, print, write both pictures; the ratios before and after."""
    before = noisy(clean)
    start = time.perf_counter()
    after = denoise(before[None], window, window)[0]
    seconds = time.perf_counter() - start
    found = psnr(before, clean), psnr(after, clean)
    height, width, _ = clean.shape
    console.print(f"{height} x {width} pixels, {window} x {window} window, {PATCH} x {PATCH} patches: {seconds:.1f} s")
    for name, image, ratio in zip(("before", "after"), (before, after), found, strict=True):
        console.print(f"{name}: PSNR {ratio:.2f} dB, {save(f'photo_{name}', image)}")
    return found


if __name__ == "__main__":
    with torch.no_grad():
        main(Console(), photo())
