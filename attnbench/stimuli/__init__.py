"""From a task's definition to the images of an episode.

To add a source, give it a table in `attnbench.task_schema` and open it in `sources`; to add a generator,
likewise, and apply it in `image_sets`. On the way from a file to an image:

- `opening` finds pictures: in a folder (`listing`, `layouts`, `splits`), a CSV or Parquet files
  (`tables`), or on the hub (`hub`).
- `datasets` holds them with their classes; `decoding` turns bytes into pixels.
- `sources` also has the pictures that are drawn or embedded, and prepares all of them for a backbone.
- `image_sets` selects pictures and applies a generator; `episodes` puts an episode together.
"""
