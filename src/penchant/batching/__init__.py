"""From tokenized pairs to the tensors of a micro-batch. The first layer that needs torch."""

import os

# oneDNN keeps a compiled kernel and its scratch memory for every shape it has met, 1024 of them by default. Packed
# rows all differ in length, so that grows by gigabytes and is never used again; what one step needs fits in these.
# Read by torch when it first multiplies, so it is set before torch is imported.
for _cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "64")
