"""ImageNet's classes as WordNet ids, from the lists in timm (Apache-2.0)."""

from pathlib import Path

_FOLDER = Path(__file__).parent

# The 1,000 classes of ILSVRC 2012, sorted. Every ImageNet-1k classifier orders its outputs this way.
WNIDS = tuple((_FOLDER / "imagenet_wnids.txt").read_text(encoding="ascii").split())
# The 200 of these classes that occur in ImageNet-A (Hendrycks et al. 2019, arXiv 1907.07174).
IMAGENET_A_WNIDS = tuple((_FOLDER / "imagenet_a_wnids.txt").read_text(encoding="ascii").split())
