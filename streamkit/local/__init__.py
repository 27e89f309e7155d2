"""Lambda's event source mapping on your own machine: the engine, and the drivers around it."""
