"""A short clip denoised by 3-D neighborhood attention: as in examples/denoise_photo.py, with frames as a third axis.

The camera pans over a photograph, and every frame has noise of its own. A pixel that is seen in five frames is averaged
over five frames, although it has moved: attention finds it by its surroundings. For comparison each frame is denoised
on its own, by the same attention in two dimensions.

    python examples/denoise_clip.py
"""

from __future__ import annotations

import time

import torch
from denoise_photo import denoise, noisy, photo, psnr, save
from rich.console import Console

FRAMES, SIZE = 7, 128
CORNER = (64, 150)
PAN = (2, 3)
"""Pixels that the camera moves down and to the right from frame to frame."""
WINDOW = (5, 13, 13)
"""Frames, and pixels in height and width: five frames back and forth move less than the window is wide."""


def pan(picture: torch.Tensor, frames: int = FRAMES, size: int = SIZE) -> torch.Tensor:
    """(frames, size, size, 3): what the camera sees."""
    corners = [[c + i * step for c, step in zip(CORNER, PAN, strict=True)] for i in range(frames)]
    return torch.stack([picture[y : y + size, x : x + size] for y, x in corners])


def main(console: Console, clean: torch.Tensor, window: tuple[int, int, int] = WINDOW) -> tuple[float, float, float]:
    """Denoise, print, write the frame in the middle; the ratios before, frame by frame, and of the whole clip."""
    before = noisy(clean)
    alone = denoise(before, *window[1:])
    start = time.perf_counter()
    after = denoise(before[None], *window)[0]
    seconds = time.perf_counter() - start
    frames, height, width, _ = clean.shape
    shown = " x ".join(map(str, window))
    console.print(f"{frames} frames of {height} x {width} pixels, {shown} window: {seconds:.1f} s")
    found = psnr(before, clean), psnr(alone, clean), psnr(after, clean)
    for name, clip, ratio in zip(("before", "each frame alone", "after"), (before, alone, after), found, strict=True):
        path = save(f"clip_{name.replace(' ', '_')}", clip[frames // 2])
        console.print(f"{name}: PSNR {ratio:.2f} dB, {path}")
    return found


if __name__ == "__main__":
    with torch.no_grad():
        main(Console(), pan(photo()))
