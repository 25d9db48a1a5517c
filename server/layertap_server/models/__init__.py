"""Models: repository, loading, manifest, preprocessing, shape probe and trial at loading."""
