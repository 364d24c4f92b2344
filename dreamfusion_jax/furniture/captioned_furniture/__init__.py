"""The TFDS data set `captioned_furniture`: see `captioned_furniture_dataset_builder`."""
