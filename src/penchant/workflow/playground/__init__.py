"""What the playground of the local pages asks: finished runs and models, and few of them in memory."""
