"""What the commands do: compositions of the layers below."""
