"""The stages: read a configuration, open artifacts, call the library, publish an artifact."""
