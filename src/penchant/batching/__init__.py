"""From tokenized pairs to the tensors of a micro-batch. The first layer that needs torch."""
