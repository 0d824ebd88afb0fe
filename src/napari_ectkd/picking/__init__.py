"""Where particles may be: from a tomogram to picks without a class."""
