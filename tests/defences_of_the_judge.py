"""The defences in the judge's own process, and the exploits that each of them stops.

Without the defence, the exploits work: `test_defences.py` checks that.
"""

from __future__ import annotations

from tests import weakened_judge as weakened
from tests.defence import Defence

_CLOCK = (
    Defence(
        "the adaptation images are sent when the clock starts",
        stops=("clock/before_go",),
        judge=weakened.send_images_with_the_request,
    ),
    Defence(
        "batches that take far longer than others are charged to the adaptation",
        stops=("clock/first_image", "clock/later_image"),
        judge=weakened.no_charge_for_outliers,
    ),
    Defence(
        "loading the detector is charged to the adaptation",
        stops=("clock/loading",),
        judge=weakened.no_charge_for_loading,
    ),
    Defence(
        "prediction has a time budget",
        stops=("clock/slow_prediction",),
        judge=weakened.no_prediction_budget,
    ),
)

_LABELS = (
    Defence(
        "workers are sent no labels",
        stops=("labels/frames",),
        judge=weakened.send_labels,
    ),
    Defence(
        "workers inherit few environment variables",
        stops=("labels/environment",),
        opening=weakened.pass_on_the_environment,
    ),
    Defence(
        "data and trusted code are hidden, even where they lie among libraries",
        stops=("labels/other_networks", "labels/sklearn_digits", "labels/stimuli"),
        opening=weakened.hide_nothing,
    ),
    Defence(
        "some images are scored again by another process, in other batches",
        stops=(
            "labels/batch_median",
            "labels/batch_median_with_huge_scores",
            "labels/batch_median_with_tiny_scores",
            "labels/order",
            "labels/remembers_images",
        ),
        judge=weakened.no_second_scores,
    ),
)

_PARAMETERS = (
    Defence(
        "numbers in tensors and arrays are counted",
        stops=(
            "parameters/array",
            "parameters/attribute_of_backbone",
            "parameters/buffer",
            "parameters/hook",
        ),
        judge=weakened.count_no_tensors,
    ),
    Defence(
        "a 64-bit or complex number counts twice, and an empty tensor by its dimensions",
        stops=(
            "parameters/complex",
            "parameters/doubles",
            "parameters/empty_shapes",
            "parameters/long_integers",
        ),
        judge=weakened.count_elements,
    ),
    Defence(
        "numbers, texts and references outside tensors are counted",
        stops=(
            "parameters/booleans",
            "parameters/dictionary",
            "parameters/mixed_list",
            "parameters/module_global",
            "parameters/source",
            "parameters/tuples",
        ),
        judge=weakened.count_no_contents,
    ),
    Defence(
        "floats outside tensors are counted",
        stops=("parameters/list", "parameters/object_array", "parameters/set"),
        judge=weakened.count_all_contents_but("floats"),
    ),
    Defence(
        "integers outside tensors are counted, long ones by their bytes",
        stops=("parameters/big_integer",),
        judge=weakened.count_all_contents_but("integers"),
    ),
    Defence(
        "texts outside tensors are counted, comments in the source included",
        stops=(
            "parameters/bytes",
            "parameters/comments",
            "parameters/keys",
            "parameters/patched_packer",
            "parameters/short_bytes",
            "parameters/text",
            "parameters/text_array",
        ),
        judge=weakened.count_all_contents_but("text"),
    ),
    Defence(
        "references in a pickle are counted",
        stops=("parameters/references",),
        judge=weakened.count_all_contents_but("other"),
    ),
    Defence(
        "tensors have names that only the packer would give them",
        stops=("parameters/tensor_names",),
        judge=weakened.allow_any_tensor_name,
    ),
    Defence(
        "the judge writes the tensor file anew, without metadata",
        stops=("parameters/file_header",),
        judge=weakened.keep_the_tensor_file,
        shows="^its artefact differs in size by 4",
    ),
    Defence(
        "the predicting process gets only the submission's Python files",
        stops=("parameters/data_file",),
        judge=weakened.send_all_files_for_prediction,
    ),
)

_CHANNEL = (
    Defence(
        "the judge limits the size of message headers",
        stops=("channel/garbage", "channel/huge_header"),
        judge=weakened.no_header_limit,
        timeout=5.0,
        shows="^it was refused for another reason: timeout",
    ),
    Defence(
        "the judge limits the size of arrays",
        stops=("channel/huge_array",),
        judge=weakened.no_array_limit,
        timeout=5.0,
        shows="^it was refused for another reason: timeout",
    ),
    Defence(
        "the judge checks the shape and dtype of scores",
        stops=("channel/forged_scores",),
        judge=weakened.allow_any_shape_and_dtype,
    ),
    Defence(
        "the judge bounds the texts of a reply",
        stops=("channel/forged_precision",),
        judge=weakened.allow_any_names,
        shows="^the judge raised ValidationError",
    ),
    Defence(
        "the judge checks that scores are finite",
        stops=("channel/infinite_scores",),
        judge=weakened.allow_infinite_scores,
    ),
    Defence(
        "the judge checks that the artefact's structure is a pickle",
        stops=("channel/garbage_structure",),
        judge=weakened.parse_no_pickles,
        shows="^it was refused for another reason: UnpicklingError",
    ),
    Defence(
        "the judge unpickles nothing",
        stops=("channel/pickled_code",),
        judge=weakened.unpickle,
        shows="^left behind: /tmp/attnbench-exploit-ran$",
    ),
)

_FAULTS = (
    Defence(
        "a worker's faults become failures of the episode",
        stops=(
            "channel/closes_all",
            "faults/endless",
            "faults/endless_import",
            "faults/endless_loading",
            "faults/stops_itself",
        ),
        judge=weakened.let_errors_through,
        shows="^the judge raised (ChannelClosed|ChannelTimeout)",
    ),
    Defence(
        "the exit code of a worker becomes the reason of the failure",
        stops=(
            "faults/core_dump",
            "faults/deep_recursion",
            "faults/exits",
            "faults/nameless_signal",
            "faults/segfault",
        ),
        judge=weakened.ignore_exit_codes,
        shows="^it was refused for another reason: the process closed its channel",
    ),
    Defence(
        "the judge replaces characters that cannot be encoded",
        stops=("faults/invalid_unicode",),
        judge=weakened.keep_invalid_unicode,
        shows=r"^the judge raised ValidationError: (.|\n)*string_unicode",
    ),
)

JUDGE_DEFENCES = (*_CLOCK, *_LABELS, *_PARAMETERS, *_CHANNEL, *_FAULTS)
