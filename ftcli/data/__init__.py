"""From a source to batches: rows, features, updates, padded tensors."""
