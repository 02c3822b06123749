"""ImageNet's classes by their WordNet ids, from timm's lists (Apache-2.0)."""

from pathlib import Path

_FOLDER = Path(__file__).parent

# The 1000 classes of ILSVRC 2012, sorted: the order of every ImageNet-1k classifier's outputs.
WNIDS = tuple((_FOLDER / "imagenet_wnids.txt").read_text(encoding="ascii").split())
# The 200 of them that ImageNet-A has pictures of (Hendrycks et al. 2019, arXiv 1907.07174).
IMAGENET_A_WNIDS = tuple((_FOLDER / "imagenet_a_wnids.txt").read_text(encoding="ascii").split())
