"""Change of real photographs by another implementation of the corruptions, for the tests.

``python tests/sp_bench/corruptions/reference.py`` writes ``reference.json`` anew. It takes
``imagecorruptions-imaug==1.1.5`` (Apache-2.0), a maintained copy of the authors' functions with the
strengths for 224 px. Of frost only the first five of its photographs are used, as by the authors.
``elastic_transform`` is left out: its formula is not the authors'.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

FILE = Path(__file__).with_suffix(".json")
SIDE = 224
DRAWN_PER_IMAGE = ("motion_blur", "snow", "frost", "fog")  # with one draw for all of its pixels


def photographs() -> np.ndarray:
    """Four parts of scikit-learn's two photographs, (4, 224, 224, 3), uint8."""
    parts = [(slice(SIDE), slice(SIDE)), (slice(-SIDE, None), slice(-SIDE, None))]
    return np.stack([image[part] for image in load_sample_images().images for part in parts])


def root_mean_square(corrupted: np.ndarray, clean: np.ndarray) -> float:
    return float(np.sqrt(np.square(corrupted.astype(float) - clean).mean()))


def measure(name: str, severity: int, draws: int) -> float:
    """RMS change in grey levels, over ``draws`` draws for each photograph."""
    from imagecorruptions import corrupt

    clean = np.repeat(photographs(), draws, axis=0)
    if name == "frost":
        return root_mean_square(_frost(clean, severity), clean)
    made = [corrupt(image, corruption_name=name, severity=severity) for image in clean]
    return root_mean_square(np.stack(made), clean)


def _frost(clean: np.ndarray, severity: int) -> np.ndarray:
    import imagecorruptions
    from sp_bench.corruptions.severities import LARGE

    folder = Path(imagecorruptions.__file__).parent / "frost"
    ice = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*"))[:5]]
    image_weight, ice_weight = LARGE["frost"][severity - 1]
    rng = np.random.default_rng(severity)
    made = []
    for image in clean:
        whole = ice[rng.integers(5)]
        top, left = (rng.integers(length - SIDE) for length in whole.shape[:2])
        part = whole[top : top + SIDE, left : left + SIDE]
        made.append((image_weight * image + ice_weight * part).clip(0, 255).astype(np.uint8))
    return np.stack(made)


def main() -> None:
    from sp_bench.corruptions import NAMES

    np.random.seed(0)  # noqa: NPY002  # which the library draws from
    changes = {
        name: [
            round(measure(name, severity, 100 if name in DRAWN_PER_IMAGE else 1), 3)
            for severity in (1, 2, 3, 4, 5)
        ]
        for name in NAMES
        if name != "elastic_transform"
    }
    lines = (f'  "{name}": {json.dumps(values)}' for name, values in changes.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
