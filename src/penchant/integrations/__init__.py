"""Penchant behind other libraries' interfaces, for scripts that exist already."""
