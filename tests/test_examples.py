"""The examples on photographs at a tiny size: what they print and write, and non-local means written as loops."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

pytest.importorskip("skimage", reason="scikit-image is not installed")
pytestmark = pytest.mark.cxx


@pytest.fixture
def photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module of the photograph, which writes its pictures elsewhere."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "examples"))
    import denoise_photo

    monkeypatch.setattr(denoise_photo, "PICTURES", tmp_path)
    yield denoise_photo
    for name in ("denoise_photo", "denoise_clip"):
        sys.modules.pop(name, None)


def printed() -> Console:
    return Console(file=StringIO(), width=200)


def test_a_photograph(photos: Any, tmp_path: Path) -> None:
    """It gets better, and it is the same as loops over pixels, their windows and their patches."""
    clean = photos.photo()[100:111, 180:193]
    console = printed()
    before, after = photos.main(console, clean, window=7)
    assert after > before + 3
    assert "11 x 13 pixels, 7 x 7 window, 5 x 5 patches" in console.file.getvalue()  # type: ignore[attr-defined]
    for name in ("before", "after"):
        assert (tmp_path / f"photo_{name}.png").read_bytes().startswith(b"\x89PNG")
    noisy = photos.noisy(clean).double()
    found = photos.denoise(noisy.float()[None], 7, 7)[0]
    torch.testing.assert_close(found.double(), by_loops(noisy, 7, 5, photos.NOISE, photos.BANDWIDTH), rtol=0, atol=1e-4)


def by_loops(image: torch.Tensor, window: int, patch: int, noise: float, bandwidth: float) -> torch.Tensor:
    """Buades, Coll and Morel: weights exp(-max(d2 - 2 sigma2, 0) / h2), in windows that are moved inwards."""
    (height, width, _), edge = image.shape, patch // 2
    padded = torch.nn.functional.pad(image.movedim(-1, 0)[None], (edge,) * 4, mode="reflect")[0]
    result = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            top, left = (min(max(at - window // 2, 0), n - window) for at, n in ((y, height), (x, width)))
            own = padded[:, y : y + patch, x : x + patch]
            total, mass = torch.zeros(3, dtype=image.dtype), 0.0
            for i in range(top, top + window):
                for j in range(left, left + window):
                    d2 = (own - padded[:, i : i + patch, j : j + patch]).square().mean()
                    weight = torch.exp(-torch.clamp(d2 - 2 * noise**2, min=0) / bandwidth**2)
                    total, mass = total + weight * image[i, j], mass + weight
            result[y, x] = total / mass
    return result


def test_a_clip(photos: Any, tmp_path: Path) -> None:
    import denoise_clip

    console = printed()
    clean = denoise_clip.pan(photos.photo(), frames=4, size=14)
    assert torch.equal(clean[0, 2:, 3:], clean[1, :-2, :-3])
    before, alone, after = denoise_clip.main(console, clean, (3, 7, 7))
    assert after > alone > before
    assert (tmp_path / "clip_after.png").exists()
