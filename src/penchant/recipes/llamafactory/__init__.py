"""From LLaMA-Factory's configuration files to recipes; `migration` is where it begins."""
