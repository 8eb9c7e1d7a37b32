"""From axolotl's configuration files to recipes; `migration` is where it begins."""
