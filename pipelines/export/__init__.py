"""Export: a prepared data set in the file formats of other programs."""
