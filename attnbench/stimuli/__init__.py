"""From a task's definition to the images of an episode.

A new source gets a table in `attnbench.task_schema` and is opened in `sources`. A new generator gets a
table too, and is applied in `image_sets`. On the way from a file to an image:

- `opening` finds pictures: in a folder (`listing`, `layouts`, `splits`), a CSV or Parquet files
  (`tables`), or on the hub (`hub`).
- `datasets` holds them with their classes; `decoding` turns bytes into pixels.
- `sources` also has the pictures that are drawn or embedded, and prepares all of them for a backbone.
- `image_sets` selects pictures and applies a generator; `episodes` puts an episode together.
"""
