"""Which label a class is: names, synonyms, WordNet ids, and the order of 1,000 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_files import SMALL, encoded_picture, folder_stimuli, write_classes

from attnbench.backbones.imagenet import WNIDS
from attnbench.backbones.imagenet_names import as_wnids, names_by_wnid, wnids_of
from attnbench.errors import AttnbenchError
from attnbench.stimuli.class_labels import near_labels
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.tasks import Track, load_task

# The ten classes of Imagenette: WordNet ids, as the hub has them, and names, as its script has them.
IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
FIRST_NAMES = [names[0] for names in names_by_wnid().values()]
HALVES = {"adapt": 0.5, "test": 0.5}


pytestmark = pytest.mark.usefixtures("cache")


def test_the_names_are_those_of_the_1000_classes() -> None:
    assert tuple(names_by_wnid()) == WNIDS
    assert names_by_wnid()["n01440764"] == ("tench", "Tinca tinca")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("n01440764", ["n01440764"]),
        ("Tench", ["n01440764"]),
        ("english_springer", ["n02102040"]),
        ("tench, Tinca tinca", ["n01440764"]),
        ("chainsaw", ["n03000684"]),
        ("harp", ["n03495258"]),  # the usual name of one class, and a synonym of another
        ("crane", ["n02012849", "n03126707"]),
        ("panda", ["n02509815", "n02510455"]),
        ("cat", []),
        ("3", []),
    ],
)
def test_a_name_means_the_classes_that_have_it(name: str, expected: list[str]) -> None:
    assert list(wnids_of(name)) == expected


def _write_imagenette(folder: Path, names: list[str]) -> None:
    """Ten classes of four pictures as Parquet, with class names of one's choice."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    labels = [label for label in range(10) for _ in range(4)]
    for number, split in enumerate(("train", "validation")):
        pictures = [
            {"bytes": encoded_picture(1000 * number + row), "path": None} for row in range(40)
        ]
        table = pa.table({"image": pictures, "label": labels}, schema=features.arrow_schema)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"{split}.parquet")


def _imagenette_track(**changes: Any) -> Track:
    table = load_task("imagenet-standard").tracks["photographs"].model_dump()
    table["adapt"] |= {"positives": 4, "negatives": 8}
    table["test"] |= {"positives": 4, "negatives": 8}
    return Track.model_validate(table | changes)


@pytest.mark.parametrize("backbone", ["wnids", "names"])
@pytest.mark.parametrize("data", ["wnids", "names"])
def test_imagenets_names_and_wordnet_ids_are_one(tmp_path: Path, data: str, backbone: str) -> None:
    _write_imagenette(
        tmp_path / "imagenette", [*(IMAGENETTE if data == "wnids" else IMAGENETTE.values())]
    )
    labels = WNIDS if backbone == "wnids" else tuple(FIRST_NAMES)
    for targets in ("all", ["n03028079", "n01440764"], ["church", "tench"]):
        track = _imagenette_track(targets=targets)
        stimuli = TrackStimuli(track, SMALL, labels, tmp_path)
        stimuli.check([0])
        episode = stimuli.episode(stimuli.targets[0], 0)
        name = episode.target if episode.target in WNIDS else wnids_of(episode.target)[0]
        assert episode.label == WNIDS.index(name)
        assert len(episode.rivals) == len(stimuli.targets)


def test_a_filter_network_knows_the_names_too(tmp_path: Path) -> None:
    _write_imagenette(tmp_path / "imagenette", list(IMAGENETTE.values()))
    table = load_task("imagenet-a").tracks["photographs"].model_dump()
    table["test"]["generator"] = {
        "kind": "filtration",
        "network": "shipped/figures-filter",
        "confidence": 0.0,
    }
    stimuli = TrackStimuli(Track.model_validate(table), SMALL, WNIDS, tmp_path)
    with pytest.raises(AttnbenchError, match="no label for English springer, French horn"):
        stimuli.check([0])


def test_a_name_that_data_sets_use_otherwise_is_not_taken_for_imagenets(tmp_path: Path) -> None:
    """CIFAR-100 has a mouse; ImageNet's mouse is a computer mouse."""
    names = [*list(IMAGENETTE.values())[:8], "mouse", "willow tree"]
    _write_imagenette(tmp_path / "imagenette", names)
    stimuli = TrackStimuli(_imagenette_track(targets=["mouse"]), SMALL, WNIDS, tmp_path)
    assert stimuli.episode("mouse", 0).label is None


def test_an_ambiguous_name_is_an_error_that_lists_the_candidates(tmp_path: Path) -> None:
    names = [*list(IMAGENETTE.values())[:9], "crane"]
    _write_imagenette(tmp_path / "imagenette", names)
    stimuli = TrackStimuli(_imagenette_track(targets=["crane"]), SMALL, WNIDS, tmp_path)
    with pytest.raises(
        AttnbenchError,
        match=r"'crane' can mean n02012849 \(crane, .*\) or n03126707 \(crane\).*labels = \{",
    ):
        stimuli.episode("crane", 0)
    track = _imagenette_track(targets=["crane"], labels={"crane": "n03126707"})
    assert TrackStimuli(track, SMALL, WNIDS, tmp_path).episode("crane", 0).label == 517


def test_the_label_of_a_class_of_ones_own_is_never_guessed(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {"church": 8, "dog": 8})
    stimuli = folder_stimuli(folder, HALVES, labels=WNIDS, targets=["church"])
    assert stimuli.episode("church", 0).label is None
    # It is known if the backbone has a label of exactly this name.
    stimuli = folder_stimuli(folder, HALVES, labels=("dog", "church"), targets=["church"])
    assert stimuli.episode("church", 0).label == 1


@pytest.mark.parametrize("label", ["n03028079", "church", "Church_Building", 497])
def test_labels_say_which_label_a_class_is(tmp_path: Path, label: str | int) -> None:
    folder = write_classes(tmp_path / "pets", {"kirche": 8, "dog": 8})
    assert _label(folder, label, WNIDS) == 497
    assert _label(folder, label, None) is None
    if isinstance(label, str) and label != "n03028079":
        assert _label(folder, label, ("temple", "church")) == 1


def _label(folder: Path, label: str | int, known: tuple[str, ...] | None) -> int | None:
    track = {"targets": ["kirche"], "labels": {"kirche": label}}
    table = _table(folder) | track
    stimuli = TrackStimuli(Track.model_validate(table), SMALL, known, None)
    return stimuli.episode("kirche", 0).label


def _table(folder: Path) -> dict[str, Any]:
    source = {"kind": "folder", "path": str(folder), "split": HALVES}
    sample = {"source": source, "positives": 2, "negatives": 2}
    return {"backbones": ["x/y"], "timeout": 1, "adapt": sample, "test": sample}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("chruch", r"no such label; similar labels are .*n03028079 \(church, church building\)"),
        ("retriever", "golden retriever"),
        ("qqqq", r"its labels are n01440764, .*…"),
        ("panda", r"can mean n02509815 \(lesser panda.*or n02510455"),
        (1000, "numbered 0 to 999"),
    ],
)
def test_a_wrong_label_is_an_error_that_lists_similar_labels(
    tmp_path: Path, label: str | int, expected: str
) -> None:
    folder = write_classes(tmp_path / "pets", {"kirche": 8, "dog": 8})
    with pytest.raises(AttnbenchError, match=expected):
        _label(folder, label, WNIDS)


def test_a_label_of_a_class_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {"church": 8, "dog": 8})
    table = _table(folder) | {"targets": "all", "labels": {"chruch": "n03028079"}}
    with pytest.raises(AttnbenchError, match=r"'chruch' is not a class of pets; similar .* church"):
        TrackStimuli(Track.model_validate(table), SMALL, WNIDS, None)


def test_near_labels_are_described() -> None:
    assert near_labels("gaspump", WNIDS)[0].startswith("n03425413 (gas pump")


def test_the_hubs_names_in_imagenets_order_are_wordnet_ids() -> None:
    names = [", ".join(names) for names in names_by_wnid().values()]
    assert as_wnids(names, "imagenet") == WNIDS
    names[WNIDS.index("n03126707")] = "crane2"
    assert as_wnids(names, "imagenet") == WNIDS
    assert as_wnids(WNIDS[::-1], "imagenet") == WNIDS[::-1]


def test_sorted_names_get_the_id_of_their_own_class() -> None:
    """Folders are sorted by name, which is not ImageNet's order."""
    names = {wnid: ", ".join(names) for wnid, names in names_by_wnid().items()}
    names |= {"n03126707": "crane, machine", "n02012849": "crane bird", "n03710637": "maillot"}
    unclear = sorted(names.values())
    with pytest.raises(AttnbenchError, match=r"not certain .*'cardigan'.*'maillot'.*WordNet ids"):
        as_wnids(unclear, "imagenet-train")
    certain = [wnid if len(wnids_of(name)) != 1 else name for wnid, name in names.items()]
    order = sorted(range(1000), key=lambda index: certain[index])
    classes = as_wnids([certain[index] for index in order], "imagenet-train")
    assert classes == tuple(WNIDS[index] for index in order)


def test_numbers_do_not_say_which_class_is_meant() -> None:
    for numbers in (map(str, range(1000)), sorted(map(str, range(1000)))):
        with pytest.raises(AttnbenchError, match=r"called 0 to 999.*WordNet ids \(n01440764"):
            as_wnids(list(numbers), "imagenet-train")


def test_1000_other_classes_keep_their_names() -> None:
    names = tuple(f"person {number}" for number in range(1000))
    assert as_wnids(names, "faces") == names


@pytest.mark.parametrize("numbered", [True, False])
def test_1000_class_folders_are_not_numbered_by_their_sorting(
    tmp_path: Path, numbered: bool
) -> None:
    classes = map(str, range(1000)) if numbered else WNIDS
    write_classes(tmp_path / "imagenet" / "train", dict.fromkeys(classes, 1))
    table = load_task("imagenet-standard").tracks["full"].model_dump()
    table["adapt"] |= {"positives": 1, "negatives": 5}
    table["test"] = table["adapt"]
    track = Track.model_validate(table | {"targets": ["n03028079"]})
    if numbered:
        with pytest.raises(AttnbenchError, match="does not say which class of ImageNet"):
            TrackStimuli(track, SMALL, WNIDS, tmp_path)
    else:
        assert TrackStimuli(track, SMALL, WNIDS, tmp_path).targets == ("n03028079",)
