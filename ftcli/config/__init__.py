"""The config: its schema, its YAML, and how file and command line become one frozen object."""
